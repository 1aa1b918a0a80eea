"""The relay's statements on the outbox: taking unsent rows, marking them as sent, and parking them."""

from collections.abc import Collection, Sequence
from typing import Any

from django.conf import settings

from chassis.kafka import sizes
from chassis.outbox.row import Row

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
"""Large values are read only for the rows that are taken; before that, only their size, which PostgreSQL stores separately."""

ALL_BUT = "AND topic <> ALL(%(besides)s)"
ONE = "AND topic = %(topic)s"
BEHIND_PARKED = """
AND NOT EXISTS (SELECT 1 FROM outbox AS p
                WHERE left(p.topic, 249) = left(o.topic, 249) AND left(p.key, 200) = left(o.key, 200)
                AND p.topic = o.topic AND p.key = o.key
                AND p.sent_at IS NULL AND p.parked_at IS NOT NULL AND p.discarded_at IS NULL
                AND p.position < o.position)
"""
"""The first condition matches the index `outbox_parked_key`, since a key may be longer than an index entry."""

MARK = "UPDATE outbox SET sent_at = clock_timestamp() WHERE position = ANY(%s)"
MARK_LATE = "UPDATE outbox SET sent_at = clock_timestamp() WHERE event_id = ANY(%s) AND sent_at IS NULL"
"""By event id: after a failover or a restore, a position may belong to another event."""
PARK = "UPDATE outbox SET parked_at = clock_timestamp(), parked_reason = %s WHERE event_id = %s AND sent_at IS NULL"


def unsent(*, wait: bool, topics: str = "") -> str:
    """The statement that selects unsent rows; `wait`: except those behind a parked row of their key."""
    return UNSENT.format(topics=topics, unless_parked=BEHIND_PARKED if wait else "")


def take(
    cursor: Any, floor: int, *, besides: Collection[str] = (), topic: str | None = None, most: int | None = None
) -> list[Row]:
    """The first unsent rows above the position `floor`, in order: of all topics except `besides`, or of one topic.

    At most OUTBOX_BATCH_SIZE rows, or `most`, and about OUTBOX_BATCH_BYTES; a single row is taken whatever its size.
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
    """Mark acknowledged rows as sent. `late`: they were taken in an earlier session."""
    if late:
        cursor.execute(MARK_LATE, [[row.event_id for row in rows]])
    else:
        cursor.execute(MARK, [[row.position for row in rows]])


def park(cursor: Any, row: Row, reason: str) -> None:
    """Park a row, with the reason for which it was refused."""
    cursor.execute(PARK, [reason.replace("\0", "")[:1_000], row.event_id])
