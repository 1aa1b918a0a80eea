"""Prevent handlers from committing inbox rows: their events would be recorded as processed before their handlers returned.

The consumer marks its transaction with a setting, `chassis.batch` (chassis/consumer/one_transaction.py), and removes the mark
after the handlers have returned. Consumers of the previous version set nothing, and are not affected.
"""

from django.db import migrations

from chassis.database.online import run_briefly

REFUSE_COMMIT = """
CREATE FUNCTION inbox_refuse_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('chassis.batch', true) <> '' THEN
        RAISE EXCEPTION 'a handler tried to commit the transaction of its events, which only the consumer does'
            USING ERRCODE = 'invalid_transaction_termination',
            HINT = 'For work of its own, take a savepoint (transaction.atomic()). SET CONSTRAINTS must name its constraints.';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER inbox_refuse_commit AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('chassis.batch', true) <> '')
    EXECUTE FUNCTION inbox_refuse_commit();
"""
COMMIT_AGAIN = "DROP TRIGGER inbox_refuse_commit ON inbox; DROP FUNCTION inbox_refuse_commit();"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("messaging", "0008_inbox_identity")]

    operations = [run_briefly(REFUSE_COMMIT, COMMIT_AGAIN)]
