"""Wake the relays when rows were added, and keep the outbox small: what its many updates leave behind goes early."""

from django.db import migrations

NOTIFY = """
CREATE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_notify AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_notify();
"""
NO_NOTIFY = "DROP TRIGGER outbox_notify ON outbox; DROP FUNCTION outbox_notify();"

VACUUM = """
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000,
                        autovacuum_vacuum_insert_scale_factor = 0.05);
"""
NO_VACUUM = """
ALTER TABLE outbox RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
                          autovacuum_vacuum_insert_scale_factor);
"""


class Migration(migrations.Migration):
    dependencies = [("messaging", "0001_initial")]

    operations = [migrations.RunSQL(NOTIFY, NO_NOTIFY), migrations.RunSQL(VACUUM, NO_VACUUM)]
