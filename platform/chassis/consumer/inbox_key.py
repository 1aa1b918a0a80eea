"""From one key of the inbox to the other, while consumers of both versions run: see docs/adr/0003-inbox-and-deterministic-ids.md.

Consumers before migration 0008 know an event by its id, and their statement names the index over it: without that index
each of their events would fail. So the migration adds the new key (event id, topic, source) beside the old one, and the
old one goes when no such consumer is left. Until then an id that comes from a second source, or on a second topic, is still
taken for a repeat.
"""

import structlog
from django.conf import settings
from django.db import DatabaseError, connections, transaction

log = structlog.get_logger(__name__)

MIGRATION = "0008_inbox_identity"
LOCK_TIMEOUT = "500ms"

# Rows without a source are from before. Idle consumers write none, so the migration itself must be an hour old, too.
OLD_KEY_IS_NEEDED = """
SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = 'inbox'::regclass AND contype = 'p' AND conname = 'inbox_pkey'),
       EXISTS (SELECT 1 FROM django_migrations WHERE app = 'messaging' AND name = %s AND applied > now() - interval '1 hour')
       OR EXISTS (SELECT 1 FROM inbox WHERE consumed_at > now() - interval '1 hour' AND source = '')
"""
REPLACE = """
ALTER TABLE inbox DROP CONSTRAINT inbox_pkey, ADD CONSTRAINT inbox_identity PRIMARY KEY USING INDEX inbox_identity
"""


def replace() -> bool:
    """Let the new key take the place of the old one, if nobody has needed that for an hour. Returns whether it did.

    Waits 500 ms at most for the table. A table that is busy, or not the role's own, keeps its key, with a warning.
    """
    alias = settings.SERVICE_DATABASE
    with connections[alias].cursor() as cursor:
        cursor.execute(OLD_KEY_IS_NEEDED, [MIGRATION])
        there, needed = cursor.fetchone()
    if not there or needed:
        return False
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute(REPLACE)
    except DatabaseError as error:
        log.warning("the inbox still knows events by their id alone", reason=str(error).strip()[:300])
        return False
    log.info("the inbox knows events by source, id and topic from now on")
    return True
