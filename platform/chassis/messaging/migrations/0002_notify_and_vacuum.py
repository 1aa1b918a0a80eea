"""SQL that Django's migration operations do not cover.

Notify relays of new rows, and vacuum the outbox more often, because of its many updates. The inbox is searched only for whole
ids, so the second index for prefixes is dropped."""

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


# The name of the index contains a hash, so it is looked up.
NO_PREFIX_INDEX = r"""
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT indexname FROM pg_indexes WHERE tablename = 'inbox' AND indexname LIKE '%\_like' LOOP
        EXECUTE format('DROP INDEX %I', name);
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("messaging", "0001_initial")]

    operations = [migrations.RunSQL(NOTIFY, NO_NOTIFY), migrations.RunSQL(VACUUM, NO_VACUUM), migrations.RunSQL(NO_PREFIX_INDEX, migrations.RunSQL.noop)]
