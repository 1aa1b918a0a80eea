"""Remove the outbox's autovacuum setting that was measured to have no effect: see ADR 0018."""

from django.db import migrations

DROP = "ALTER TABLE outbox RESET (autovacuum_vacuum_insert_scale_factor)"
KEEP = "ALTER TABLE outbox SET (autovacuum_vacuum_insert_scale_factor = 0.05)"


class Migration(migrations.Migration):
    dependencies = [("messaging", "0004_purge_index")]

    operations = [migrations.RunSQL(DROP, KEEP)]
