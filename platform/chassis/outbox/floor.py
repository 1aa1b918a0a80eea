"""The floor: the position above which the relay searches for unsent rows. Below it none is left, and none can be committed.

Sent rows leave dead entries at the front of the index `outbox_unsent`. While an old snapshot is open (such as that of a
`pg_dump`), vacuum cannot remove them, and every search from the front reads all of them. A search from the floor does not.

The floor must never pass a row that is committed late. A statement that draws positions has locked the table before (ROW
EXCLUSIVE), and keeps that lock until its transaction ends. So the relay first reads the highest visible position H, and then
the transactions that hold such a lock. Once all of these have ended, each row up to H is either committed, and visible to
later statements, or never will be. The floor then rises to H, or to the position before the first row that is unsent or
parked. A parked row may be retried at any time, and must then be sent before the later rows of its key, although the relay
may see it before it is notified. To send sent rows again, the relay rescans from 0 (`wakeup.RESCAN`).

This holds for positions from the table's own sequence. If the sequence is reset, or rows are inserted with explicit
positions, the relay must be restarted. Restoring the database ends the relay's session anyway.
"""

import time
from typing import Any

EVERY_SECONDS = 1.0
EVERY_ROWS = 2_000
"""The floor is moved after this time or this number of rows, whichever comes first."""

# A statement's snapshot is older than its reading of pg_locks: so H is read before the transactions.
HIGHEST_AND_INSERTING = """
SELECT (SELECT max(position) FROM outbox),
       ARRAY(SELECT virtualtransaction FROM pg_locks
             WHERE locktype = 'relation' AND relation = 'outbox'::regclass AND granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
             AND pid IS DISTINCT FROM pg_backend_pid())
"""
PARKED = "sent_at IS NULL AND parked_at IS NOT NULL AND discarded_at IS NULL"
FIRST = f"""
SELECT CASE WHEN EXISTS (SELECT FROM outbox WHERE position = %(floor)s + 1 AND {PARKED}) THEN %(floor)s + 1 ELSE least(
    (SELECT position FROM outbox WHERE position > %(floor)s AND sent_at IS NULL AND parked_at IS NULL
     ORDER BY position LIMIT 1),
    (SELECT min(position) FROM (SELECT position FROM outbox WHERE {PARKED} OFFSET 0) AS parked)
) END
"""  # noqa: S608  a constant
"""The parked rows are only searched once the one that holds the floor is decided.

OFFSET 0 keeps PostgreSQL from looking for the first of them in the order of all positions. It did so while the table had no
statistics, as in the first minute of a new one, and read every row when none was parked.
"""
CACHED = "SELECT seqcache > 1 FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('outbox', 'position')::regclass"
PREPARED = "-1/"
"""Prefix of the virtual transaction id of a prepared transaction, which had a different one before."""


class Floor:
    """The highest position up to which no row waits to be sent. It belongs to a session that is notified of rescans."""

    def __init__(self) -> None:
        self.position = 0
        self._usable: bool | None = None
        self._decided = 0
        """Every row up to this position is committed, or never will be."""
        self._seen: tuple[int, frozenset[str]] | None = None
        """The highest position, and the transactions that may still insert below it."""
        self._moved_at = 0.0
        self._rows = 0

    def reset(self) -> None:
        """Start at 0 again, since rows may wait at any position."""
        self.__init__()  # type: ignore[misc]

    def sent(self, rows: int) -> None:
        """Note that rows were sent, whose dead index entries the next search should skip."""
        self._rows += rows

    def rise(self, cursor: Any) -> None:
        """Raise the floor if it is due, in two steps: note the inserting transactions, and raise it once they have ended."""
        now = time.monotonic()
        if now - self._moved_at < EVERY_SECONDS and self._rows < EVERY_ROWS:
            return
        self._moved_at, self._rows = now, 0
        if self._usable is None:
            cursor.execute(CACHED)
            found = cursor.fetchone()
            # A session that caches sequence values may use values that are lower than those of others.
            self._usable = found is not None and not found[0]
        if self._usable:
            self._rise(cursor)

    def _rise(self, cursor: Any) -> None:
        cursor.execute(HIGHEST_AND_INSERTING)
        highest, inserting = cursor.fetchone()
        if self._seen is None and highest is not None and highest > self._decided:
            self._seen = highest, frozenset(inserting)
        if self._seen is not None and not self._still_there(inserting):
            self._decided, self._seen = self._seen[0], None
        if self._decided > self.position:
            # A statement that begins now sees all of these rows that were committed.
            cursor.execute(FIRST, {"floor": self.position})
            (first,) = cursor.fetchone()
            self.position = self._decided if first is None else min(self._decided, first - 1)

    def _still_there(self, inserting: list[str]) -> bool:
        """Whether a transaction that may insert below the noted position is still open."""
        assert self._seen is not None
        return not self._seen[1].isdisjoint(inserting) or any(one.startswith(PREPARED) for one in inserting)
