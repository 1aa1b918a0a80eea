"""Index only the beginning of a parked row's key: Kafka accepts any length, but an index entry is limited to 2,700 bytes."""

import django.db.models.functions.text
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # indexes are created and dropped while rows are written

    dependencies = [("messaging", "0005_only_what_helps")]

    operations = [
        AddIndexConcurrently(
            model_name="outboxevent",
            index=models.Index(
                django.db.models.functions.text.Left("topic", 249),
                django.db.models.functions.text.Left("key", 200),
                condition=models.Q(("parked_at__isnull", False), ("sent_at__isnull", True)),
                name="outbox_parked_key",
            ),
        ),
        RemoveIndexConcurrently(model_name="outboxevent", name="outbox_parked"),
    ]
