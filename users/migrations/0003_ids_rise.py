"""New ids rise with time: see docs/adr/0056-ids-that-rise-with-time.md. The default is Django's, so nothing changes in the database."""

from django.db import migrations, models

import chassis.ids


class Migration(migrations.Migration):
    dependencies = [("users", "0002_modified_at")]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="id",
            field=models.UUIDField(default=chassis.ids.new_id, editable=False, primary_key=True, serialize=False),
        ),
    ]
