"""The inbox identifies an event by its source, id and topic, instead of by its id alone.

The migration runs online: the column has a constant default, so the table is not rewritten; the indexes are created
concurrently, which takes minutes on a table of millions of rows; strong locks are held briefly, with a lock timeout.

Consumers of the previous version keep working during and after it: their rows have no source (''), and `ON CONFLICT
(event_id)` finds the old key, which remains. If the inbox is empty, this migration replaces the key. Otherwise the relay, or
`manage.py purge`, replaces it when no consumer of the previous version has written for an hour (inbox_key.py). So deploy as
usual: migrate, then replace the processes, within an hour. See docs/runbook.md.
"""

from django.db import migrations, models

from chassis.database.online import briefly, run_briefly

ADD_SOURCE = "ALTER TABLE inbox ADD COLUMN IF NOT EXISTS source text NOT NULL DEFAULT ''"
DROP_SOURCE = "ALTER TABLE inbox DROP COLUMN source"

LEFT_BEHIND = """
SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid
WHERE indrelid = 'inbox'::regclass AND relname IN ('inbox_identity', 'inbox_without_source') AND NOT indisvalid
"""
MAKE_INDEXES = (
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS inbox_identity ON inbox (event_id, topic, source)",
    # Shows whether there are still rows without a source, and finds them; new rows are never in it.
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS inbox_without_source ON inbox (event_id, topic) WHERE source = ''",
)
REPLACE_WHERE_EMPTY = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM inbox) THEN
        LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT 1 FROM inbox) THEN
            ALTER TABLE inbox DROP CONSTRAINT inbox_pkey, ADD CONSTRAINT inbox_identity PRIMARY KEY USING INDEX inbox_identity;
        END IF;
    END IF;
END $$;
"""
# Fails with an error if two events have the same id by now.
OLD_KEY_AGAIN = """
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = 'inbox'::regclass AND conname = 'inbox_identity') THEN
        ALTER TABLE inbox DROP CONSTRAINT inbox_identity, ADD CONSTRAINT inbox_pkey PRIMARY KEY (event_id);
    ELSE
        DROP INDEX inbox_identity;
    END IF;
END $$;
DROP INDEX inbox_without_source;
"""


def make_indexes(apps, schema_editor):
    """Create the indexes without a time limit; invalid ones that an interrupted attempt left are replaced."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        [(limit,)] = cursor.fetchall()
        cursor.execute("SET statement_timeout = 0")
        try:
            cursor.execute(LEFT_BEHIND)
            for (name,) in cursor.fetchall():
                cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
            for statement in MAKE_INDEXES:
                cursor.execute(statement)
        finally:
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", [limit])


def key_again(apps, schema_editor):
    briefly(schema_editor, OLD_KEY_AGAIN)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("messaging", "0007_wake_who_sleeps")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[run_briefly(ADD_SOURCE, DROP_SOURCE)],
            state_operations=[
                migrations.AddField(
                    "inboxevent",
                    "source",
                    models.TextField(db_default="", help_text="Empty if processed before the inbox stored sources."),
                ),
            ],
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(make_indexes, key_again)],
            state_operations=[
                migrations.AddIndex(
                    "inboxevent",
                    models.Index("event_id", "topic", name="inbox_without_source", condition=models.Q(source="")),
                ),
            ],
        ),
        run_briefly(REPLACE_WHERE_EMPTY, migrations.RunSQL.noop),
    ]
