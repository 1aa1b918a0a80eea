"""Notify the relay only while it sleeps, make it rescan if rows must be sent again, and store its floor.

Safe while the service runs, including processes of the previous version: an old relay never takes the lock that shows that it
sleeps (`SLEEPING` in `wakeup.py`, the number below), so until it is replaced it finds new rows by polling
(OUTBOX_POLL_SECONDS).
"""

from django.db import migrations

from chassis.database.online import run_briefly

NOTIFY_WHO_SLEEPS = """
CREATE OR REPLACE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(45254) THEN
        PERFORM pg_notify('outbox', '');
    END IF;
    RETURN NULL;
END $$;
"""
NOTIFY_ALWAYS = """
CREATE OR REPLACE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('outbox', '');
    RETURN NULL;
END $$;
"""

RESCAN = """
CREATE FUNCTION outbox_rescan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('outbox', 'rescan');
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_rescan AFTER UPDATE ON outbox FOR EACH ROW
    WHEN ((OLD.sent_at IS NOT NULL OR OLD.parked_at IS NOT NULL) AND NEW.sent_at IS NULL AND NEW.parked_at IS NULL)
    EXECUTE FUNCTION outbox_rescan();
"""
NO_RESCAN = "DROP TRIGGER outbox_rescan ON outbox; DROP FUNCTION outbox_rescan();"

# At most one row. It is a hint for gauges and health checks; the relay itself never starts there.
FLOOR = """
CREATE TABLE outbox_floor (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), position bigint NOT NULL);
"""
NO_FLOOR = "DROP TABLE outbox_floor;"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("messaging", "0006_parked_keys")]

    operations = [
        migrations.RunSQL(NOTIFY_WHO_SLEEPS, NOTIFY_ALWAYS),
        run_briefly(RESCAN, NO_RESCAN),
        migrations.RunSQL(FLOOR, NO_FLOOR),
    ]
