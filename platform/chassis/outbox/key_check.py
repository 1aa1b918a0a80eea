"""A check for development and tests: whoever publishes under a key has its aggregate locked, so that order per key holds.

The relay sends rows by `position`, which is the order of inserting. That is the order of committing, too, for a writer that
locks the aggregate before it publishes: a second one waits until the first has committed. Without the lock two transactions
may commit against their positions. What the check sees is just that: two open transactions that publish under one key.
See docs/adr/0029-order-per-key.md.
"""

import hashlib
import time
from collections.abc import Sequence
from itertools import islice

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from chassis.events.envelope import Envelope

MOST_KEYS = 1_000
"""So many keys of a transaction are checked: each takes a place in PostgreSQL's lock table until the transaction ends."""
PATIENCE_SECONDS = 0.2
"""A transaction that ends lets go of the rows that it has locked a moment before it lets go of its keys."""

HELD_BY_US = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
HELD_BY_OTHERS = "SELECT key FROM unnest(%s::bigint[]) AS key WHERE NOT pg_try_advisory_xact_lock(key)"


class UnlockedAggregate(Exception):
    """Another open transaction has published under the same key, so their events may be sent against the order of their
    commits: lock the aggregate (`select_for_update`) before you change it and publish.
    """


def check(connection: BaseDatabaseWrapper, envelopes: Sequence[Envelope]) -> None:
    """Take these keys for the open transaction. Does nothing where OUTBOX_CHECK_KEYS is off. Raises UnlockedAggregate."""
    if not settings.OUTBOX_CHECK_KEYS:
        return
    with connection.cursor() as cursor:
        cursor.execute(HELD_BY_US)
        (held,) = cursor.fetchone()
    keys = dict(islice(((_number(e.topic, e.key), e) for e in envelopes), max(0, MOST_KEYS - held)))
    wanted, deadline = list(keys), time.monotonic() + PATIENCE_SECONDS
    while wanted:
        with connection.cursor() as cursor:
            cursor.execute(HELD_BY_OTHERS, [wanted])
            wanted = [number for (number,) in cursor.fetchall()]
        if wanted and time.monotonic() > deadline:
            raise UnlockedAggregate(f"{keys[wanted[0]].topic} {keys[wanted[0]].key}: {UnlockedAggregate.__doc__}")
        if wanted:
            time.sleep(0.01)


def _number(topic: str, key: str) -> int:
    """A topic and key as PostgreSQL's advisory locks are called, by 64 bits."""
    return int.from_bytes(hashlib.blake2b(f"{topic}\0{key}".encode(), digest_size=8).digest(), signed=True)
