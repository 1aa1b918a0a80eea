"""An index of pending orders: their number and the oldest one are found without reading the others.

It has a price: an update of a column in the condition of an index is never a HOT update, so closing an order now adds an
entry to each index.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # the index is created while rows are written

    dependencies = [("orders", "0003_modified_at")]

    operations = [
        AddIndexConcurrently(
            model_name="order",
            index=models.Index("created_at", condition=models.Q(status="pending"), name="orders_pending_by_age"),
        ),
    ]
