"""Leave free space on each page: an order is updated once, when its payment completes, and a HOT update needs no index."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial")]

    operations = [
        migrations.RunSQL("ALTER TABLE orders SET (fillfactor = 70)", "ALTER TABLE orders RESET (fillfactor)"),
    ]
