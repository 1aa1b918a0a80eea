"""Old rows go: outbox rows sent or discarded, ids in the inbox, answers to Idempotency-Keys. In batches that no writer notices.

A batch is one statement and one short transaction. It finds its rows by an index, where the batch before it ended, and
deletes them by their place in the table: its cost depends on the batch, not on the table. It locks old rows only, which
nobody writes any more, and passes over those that another purge holds: any number may run at once. See docs/adr/.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connections

from chassis.observability import metrics

BATCH = 1_000
PAUSE_SECONDS = 0.01

# By age, along the index of that column. Rows that another purge holds are not counted, so a batch that is not full is the last.
BY_AGE = """
WITH gone AS (
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {table} WHERE {column} >= %(after)s::timestamptz AND {column} < %(before)s
        ORDER BY {column} LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    )) RETURNING {column}
)
SELECT count(*), max({column}), count(*) = %(batch)s FROM gone
"""

# Along the primary key, as an index on sent_at would cost every mark a write. Positions rise with created_at, and a row is
# sent after it is made: behind a page that holds no old row there is none that was sent long ago.
OUTBOX = """
WITH page AS MATERIALIZED (
    SELECT position, created_at FROM outbox WHERE position > %(after)s ORDER BY position LIMIT %(batch)s
), gone AS (
    DELETE FROM outbox WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM outbox
        WHERE position > %(after)s AND position <= (SELECT max(position) FROM page)
        AND (sent_at < %(before)s OR discarded_at < %(before)s) FOR UPDATE SKIP LOCKED
    )) RETURNING position
)
SELECT (SELECT count(*) FROM gone), max(position), coalesce(bool_or(created_at < %(before)s), false) FROM page
"""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What of a table is old after `hours`, by a statement that deletes one batch.

    It takes where the last batch ended (`after`), the moment before which rows are old (`before`) and the size of a
    `batch`; it returns how many rows it deleted, where it ended, and whether there may be more.
    """

    table: str
    hours: float
    statement: str
    begin: Any


def expiries() -> list[Expiry]:
    """What the running service purges, and after how many hours."""
    inbox = BY_AGE.format(table="inbox", column="consumed_at")
    keys = BY_AGE.format(table="idempotency_keys", column="created_at")
    return [
        Expiry("outbox", settings.OUTBOX_RETENTION_HOURS, OUTBOX, 0),
        Expiry("inbox", settings.INBOX_RETENTION_HOURS, inbox, "-infinity"),
        Expiry("idempotency_keys", settings.IDEMPOTENCY_RETENTION_HOURS, keys, "-infinity"),
    ]


def purge(expiry: Expiry, *, pause: float = PAUSE_SECONDS, stop: Callable[[], object] = lambda: False) -> int:
    """Delete what is older than its retention time and return how many rows that were; between batches `stop` may end it."""
    total, more = 0, True
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        cursor.execute("SELECT now() - make_interval(secs => %s)", [expiry.hours * 3600])
        (before,) = cursor.fetchone()
        after = expiry.begin
        while more and not stop():
            cursor.execute(expiry.statement, {"after": after, "before": before, "batch": BATCH})
            deleted, after, more = cursor.fetchone()
            total += deleted
            metrics.PURGED_ROWS.labels(expiry.table).inc(deleted)
            if more:
                time.sleep(pause)
    return total
