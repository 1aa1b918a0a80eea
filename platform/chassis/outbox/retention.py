"""Purging old rows: sent or discarded outbox rows, inbox ids, and idempotency keys, in batches that block no writer.

A batch is one statement and one short transaction. It finds its rows along an index, starting where the previous batch
ended, and deletes them by `ctid`, so its cost does not depend on the size of the table. It locks only old rows, which are
no longer written, and skips those that another purge has locked, so several can run concurrently. See docs/adr/.
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

# By age, along the index on that column. Rows that another purge has locked are skipped; a batch that is not full is the last.
BY_AGE = """
WITH gone AS (
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {table} WHERE {column} >= %(after)s::timestamptz AND {column} < %(before)s
        ORDER BY {column} LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    )) RETURNING {column}
)
SELECT count(*), max({column}), count(*) = %(batch)s FROM gone
"""

# Along the primary key, since an index on sent_at would make every mark more expensive. Positions rise with created_at, and a
# row is sent after it was created: after a page without old rows, no row can have been sent long ago.
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
    """The retention time of a table's rows, and the statement that deletes one batch of older ones.

    Its parameters are the end of the previous batch (`after`), the time before which rows are old (`before`) and the `batch`
    size. It returns the number of deleted rows, the end of this batch, and whether there may be more.
    """

    table: str
    hours: float
    statement: str
    begin: Any


def expiries() -> list[Expiry]:
    """The tables that the running service purges."""
    inbox = BY_AGE.format(table="inbox", column="consumed_at")
    keys = BY_AGE.format(table="idempotency_keys", column="created_at")
    return [
        Expiry("outbox", settings.OUTBOX_RETENTION_HOURS, OUTBOX, 0),
        Expiry("inbox", settings.INBOX_RETENTION_HOURS, inbox, "-infinity"),
        Expiry("idempotency_keys", settings.IDEMPOTENCY_RETENTION_HOURS, keys, "-infinity"),
    ]


def purge(expiry: Expiry, *, pause: float = PAUSE_SECONDS, stop: Callable[[], object] = lambda: False) -> int:
    """Delete rows that are older than their retention time, and return their number. `stop` is called between batches."""
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
