"""Replacing the key of the inbox while consumers of both versions run: see docs/adr/0003-inbox-and-deterministic-ids.md.

Consumers from before migration 0008 identify an event by its id, and their statement names the index on it: without that
index each of their events would fail. The migration therefore adds the new key (event id, topic, source) beside the old one,
which is dropped when no such consumer is left. Until then, an id from a second source, or on a second topic, is still
treated as a duplicate.
"""

import structlog
from django.conf import settings
from django.db import DatabaseError, connections, transaction

log = structlog.get_logger(__name__)

MIGRATION = "0008_inbox_identity"
LOCK_TIMEOUT = "500ms"

# The previous version writes rows without a source. Idle consumers write none, so the migration must be an hour old, too.
OLD_KEY_IS_NEEDED = """
SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = 'inbox'::regclass AND contype = 'p' AND conname = 'inbox_pkey'),
       EXISTS (SELECT 1 FROM django_migrations WHERE app = 'messaging' AND name = %s AND applied > now() - interval '1 hour')
       OR EXISTS (SELECT 1 FROM inbox WHERE consumed_at > now() - interval '1 hour' AND source = '')
"""
REPLACE = """
ALTER TABLE inbox DROP CONSTRAINT inbox_pkey, ADD CONSTRAINT inbox_identity PRIMARY KEY USING INDEX inbox_identity
"""


def replace() -> bool:
    """Replace the old key with the new one, if no consumer has needed it for an hour. Returns whether it was replaced.

    Waits at most 500 ms for the table's lock. If the table is busy, or the role does not own it, logs a warning.
    """
    alias = settings.SERVICE_DATABASE
    with connections[alias].cursor() as cursor:
        cursor.execute(OLD_KEY_IS_NEEDED, [MIGRATION])
        exists, needed = cursor.fetchone()
    if not exists or needed:
        return False
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute(REPLACE)
    except DatabaseError as error:
        log.warning("the inbox still identifies events by id alone", reason=str(error).strip()[:300])
        return False
    log.info("the inbox now identifies events by source, id and topic")
    return True
