"""Decide in the trigger's condition whether to notify, without calling a function in the transactions that need not.

Safe while the service runs: between the two steps, the function checks the lock once more.
"""

from django.db import migrations

from chassis.database.online import run_briefly

NOTIFY = """
CREATE OR REPLACE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('outbox', '');
    RETURN NULL;
END $$;
"""
DECIDE = """
CREATE OR REPLACE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(45254) THEN
        PERFORM pg_notify('outbox', '');
    END IF;
    RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE OR REPLACE TRIGGER outbox_notify AFTER INSERT ON outbox FOR EACH STATEMENT {condition}
    EXECUTE FUNCTION outbox_notify();
"""
WHO_SLEEPS = TRIGGER.format(condition="WHEN (NOT pg_catalog.pg_try_advisory_xact_lock_shared(45254))")
ALWAYS = TRIGGER.format(condition="")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("messaging", "0010_staff_permissions")]

    operations = [
        run_briefly(WHO_SLEEPS, ALWAYS),
        migrations.RunSQL(NOTIFY, DECIDE),
    ]
