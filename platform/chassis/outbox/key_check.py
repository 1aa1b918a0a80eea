"""A check for development and tests: a publisher must lock the aggregate whose id is the key, so that order per key holds.

The relay sends rows by `position`, which is the order of insertion. It equals the order of commits if each writer locks the
aggregate before it publishes, since a second writer then waits until the first has committed. Without the lock, two
transactions may commit in the opposite order of their positions. The check detects two open transactions that publish under
one key. See docs/adr/0029-order-per-key.md.
"""

import hashlib
import time
from collections.abc import Sequence
from itertools import islice

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from chassis.events.envelope import Envelope

MOST_KEYS = 1_000
"""Maximum number of keys to check per transaction: each takes an entry in PostgreSQL's lock table until the transaction ends."""
PATIENCE_SECONDS = 0.2
"""How long to wait for a key: a transaction that ends releases its row locks a moment before its keys."""

HELD_BY_US = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
HELD_BY_OTHERS = "SELECT key FROM unnest(%s::bigint[]) AS key WHERE NOT pg_try_advisory_xact_lock(key)"


class UnlockedAggregate(Exception):
    """Another open transaction has published under the same key, so their events may be sent in a different order than their
    commits: lock the aggregate (`select_for_update`) before you change it and publish.
    """


def check(connection: BaseDatabaseWrapper, envelopes: Sequence[Envelope]) -> None:
    """Claim these keys for the open transaction. Does nothing if OUTBOX_CHECK_KEYS is off. Raises UnlockedAggregate."""
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
    """The 64-bit number of the advisory lock for a topic and key."""
    return int.from_bytes(hashlib.blake2b(f"{topic}\0{key}".encode(), digest_size=8).digest(), signed=True)
