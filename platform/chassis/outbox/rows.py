"""What the relay reads and writes in the outbox: rows to send, marks, parked rows."""

from collections.abc import Collection, Sequence
from typing import Any

from django.conf import settings

from chassis.kafka import sizes
from chassis.outbox.sending import Row

SIZE = """
coalesce(octet_length(payload), 0) + coalesce(octet_length(key), 0)
+ CASE WHEN pg_column_size(headers) > 2000 THEN octet_length(headers::text) ELSE pg_column_size(headers) END
"""
UNSENT = f"""
SELECT position, event_id, topic, key, raw_key, CASE WHEN size <= %(largest)s THEN payload END,
       CASE WHEN size <= %(largest)s THEN headers END, extract(epoch FROM created_at)::float8, size
FROM (SELECT *, sum(least(size, %(largest)s)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - size AS before
      FROM (SELECT position, event_id, topic, key, raw_key, payload, headers, created_at, {SIZE} AS size
            FROM outbox AS o
            WHERE position > %(floor)s AND sent_at IS NULL AND parked_at IS NULL {{topics}} {{unless_parked}}
            ORDER BY position LIMIT %(rows)s) AS o) AS o
WHERE before < %(bytes)s ORDER BY position
"""  # noqa: S608  constants
"""Of large values only the size is looked up, which stands beside the pointer to them, until it is known how many are taken."""

ALL_BUT = "AND topic <> ALL(%(besides)s)"
ONE = "AND topic = %(topic)s"
BEHIND_PARKED = """
AND NOT EXISTS (SELECT 1 FROM outbox AS p
                WHERE left(p.topic, 249) = left(o.topic, 249) AND left(p.key, 200) = left(o.key, 200)
                AND p.topic = o.topic AND p.key = o.key
                AND p.sent_at IS NULL AND p.parked_at IS NOT NULL AND p.discarded_at IS NULL
                AND p.position < o.position)
"""
"""Its first condition is what the index `outbox_parked_key` holds: a key may be longer than an index entry."""

MARK = "UPDATE outbox SET sent_at = clock_timestamp() WHERE position = ANY(%s)"
MARK_LATE = "UPDATE outbox SET sent_at = clock_timestamp() WHERE event_id = ANY(%s) AND sent_at IS NULL"
"""By the event's id: a position may be another event's in a database that a failover, or a restore, has set back."""
PARK = "UPDATE outbox SET parked_at = clock_timestamp(), parked_reason = %s WHERE event_id = %s AND sent_at IS NULL"


def unsent(*, wait: bool, topics: str = "") -> str:
    """The statement for unsent rows; `wait`: those behind a parked row of their key are not among them."""
    return UNSENT.format(topics=topics, unless_parked=BEHIND_PARKED if wait else "")


def take(
    cursor: Any, floor: int, *, besides: Collection[str] = (), topic: str | None = None, most: int | None = None
) -> list[Row]:
    """The first unsent rows above the position `floor`, in order: of all topics but `besides`, or of one.

    At most OUTBOX_BATCH_SIZE, or `most`, and about OUTBOX_BATCH_BYTES: one row is taken however large it is.
    """
    topics = ONE if topic is not None else ALL_BUT if besides else ""
    values = {
        "floor": floor,
        "rows": most or settings.OUTBOX_BATCH_SIZE,
        "bytes": settings.OUTBOX_BATCH_BYTES,
        "largest": sizes.largest_record(),
        "besides": sorted(besides),
        "topic": topic,
    }
    cursor.execute(unsent(wait=settings.OUTBOX_PARKED_KEY == "wait", topics=topics), values)
    return [Row._make(row) for row in cursor.fetchall()]


def mark(cursor: Any, rows: Sequence[Row], *, late: bool) -> None:
    """These were confirmed. `late`: they were taken in an earlier session."""
    if late:
        cursor.execute(MARK_LATE, [[row.event_id for row in rows]])
    else:
        cursor.execute(MARK, [[row.position for row in rows]])


def park(cursor: Any, row: Row, reason: str) -> None:
    """Have a row wait for a person, with what is said against it."""
    cursor.execute(PARK, [reason.replace("\0", "")[:1_000], row.event_id])
