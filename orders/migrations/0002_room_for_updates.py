"""Every order is changed once, when its payment ends: with room on its own page that touches no index."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial")]

    operations = [
        migrations.RunSQL("ALTER TABLE orders SET (fillfactor = 70)", "ALTER TABLE orders RESET (fillfactor)"),
    ]
