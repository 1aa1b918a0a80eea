"""Where the relay begins to look for unsent rows: below its floor none is left, and none can come.

Sent rows leave dead entries at the front of the index `outbox_unsent`. While an old snapshot is open (a `pg_dump`) vacuum
cannot remove them, and a search from the front reads all of them, each time. A search from the floor does not.

The floor must never pass a row that is committed late. Positions are drawn by statements that have locked the table
(ROW EXCLUSIVE) before, and keep that lock to the end of their transaction. So, if H is the highest position that is seen,
and after that the transactions that hold such a lock are noted: once all of those have ended, each row up to H is
committed or never will be, and whoever looks from then on sees it. The floor rises to H, or to the place before the first
row that is not sent. What rows that were sent need to be sent again is a rescan from 0 (`wakeup.RESCAN`).

This holds for positions as the table's own sequence gives them. After somebody has set the sequence back, or inserted rows
with positions of his own, the relay must be started again; a database that was restored ends its session anyway.
"""

import time
from typing import Any

EVERY_SECONDS = 1.0
EVERY_ROWS = 2_000
"""The floor is moved after so long, or so many rows, whichever comes first."""

# The snapshot of a statement is older than what pg_locks says: H first, then the transactions.
LOOK = """
SELECT (SELECT max(position) FROM outbox),
       ARRAY(SELECT virtualtransaction FROM pg_locks
             WHERE locktype = 'relation' AND relation = 'outbox'::regclass AND granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
             AND pid IS DISTINCT FROM pg_backend_pid())
"""
FIRST = """
SELECT min(position) FROM (
    SELECT position FROM outbox WHERE position > %s AND sent_at IS NULL AND parked_at IS NULL ORDER BY position LIMIT 1
) AS first
"""
CACHED = "SELECT seqcache > 1 FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('outbox', 'position')::regclass"
PREPARED = "-1/"
"""So begins the virtual transaction of one that was prepared for a two-phase commit: it had another before."""


class Floor:
    """The highest position up to which no row waits to be sent. It belongs to a session that is told of rescans."""

    def __init__(self) -> None:
        self.position = 0
        self._usable: bool | None = None
        self._decided = 0
        """Each row up to here is committed, or never will be."""
        self._seen: tuple[int, frozenset[str]] | None = None
        """A highest position, and those that may still insert below it."""
        self._moved_at = 0.0
        self._rows = 0

    def reset(self) -> None:
        """Begin at the start again: rows may wait anywhere."""
        self.__init__()  # type: ignore[misc]

    def sent(self, rows: int) -> None:
        """So many rows were sent: they leave entries that the next search shall not meet."""
        self._rows += rows

    def rise(self, cursor: Any) -> None:
        """Move up if it is time to, in two steps: note who may still insert below; when these are gone, move."""
        now = time.monotonic()
        if now - self._moved_at < EVERY_SECONDS and self._rows < EVERY_ROWS:
            return
        self._moved_at, self._rows = now, 0
        if self._usable is None:
            cursor.execute(CACHED)
            found = cursor.fetchone()
            # A session that caches numbers draws some that are lower than what others have used already.
            self._usable = found is not None and not found[0]
        if self._usable:
            self._rise(cursor)

    def _rise(self, cursor: Any) -> None:
        cursor.execute(LOOK)
        highest, inserting = cursor.fetchone()
        if self._seen is None and highest is not None and highest > self._decided:
            self._seen = highest, frozenset(inserting)
        if self._seen is not None and not self._still_there(inserting):
            self._decided, self._seen = self._seen[0], None
        if self._decided > self.position:
            # A statement that begins now sees whatever of these was committed.
            cursor.execute(FIRST, [self.position])
            (first,) = cursor.fetchone()
            self.position = self._decided if first is None else min(self._decided, first - 1)

    def _still_there(self, inserting: list[str]) -> bool:
        """Whether one that may insert below what was seen has not ended."""
        assert self._seen is not None
        return not self._seen[1].isdisjoint(inserting) or any(one.startswith(PREPARED) for one in inserting)
