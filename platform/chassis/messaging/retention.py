"""Old rows go: outbox rows sent or discarded, ids in the inbox, answers to Idempotency-Keys. In batches that no writer notices."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db import connections

from chassis.observability import metrics

BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Expiry:
    """Rows of `table`, found by its key, that are old when `condition` holds; `%(hours)s` in it is their retention time."""

    table: str
    key: str
    condition: str
    hours: float


def expiries() -> list[Expiry]:
    """What the running service purges, and after how many hours."""
    age = "< now() - make_interval(secs => %(hours)s * 3600)"
    return [
        Expiry("outbox", "position", f"(sent_at {age} OR discarded_at {age})", settings.OUTBOX_RETENTION_HOURS),
        Expiry("inbox", "event_id", f"consumed_at {age}", settings.INBOX_RETENTION_HOURS),
        Expiry("idempotency_keys", "key", f"created_at {age}", settings.IDEMPOTENCY_RETENTION_HOURS),
    ]


def purge(expiry: Expiry, *, pause: float = 0.01, stop: Callable[[], bool] = lambda: False) -> int:
    """Delete what is older than its retention time and return how many rows that were.

    Each batch is a transaction of its own and skips rows that another purge holds: two may run at once.
    """
    statement = f"""
        DELETE FROM {expiry.table} WHERE {expiry.key} IN (
            SELECT {expiry.key} FROM {expiry.table} WHERE {expiry.condition} LIMIT {BATCH} FOR UPDATE SKIP LOCKED)
    """  # noqa: S608  nothing in it comes from outside
    total = 0
    while not stop():
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            cursor.execute(statement, {"hours": expiry.hours})
            deleted = cursor.rowcount
        total += deleted
        metrics.PURGED_ROWS.labels(expiry.table).inc(deleted)
        if deleted < BATCH:
            break
        time.sleep(pause)
    return total
