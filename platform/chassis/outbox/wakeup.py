"""Waking a sleeping relay by the commit of a publisher, at no cost for publishers while the relay is awake.

The commit of a transaction with a NOTIFY takes a lock that exists once per PostgreSQL server, so NOTIFY is only used while
the relay sleeps. Before it sleeps, the relay acquires the advisory lock SLEEPING for its session. A publisher's trigger
tries to acquire the same lock in shared mode, until the end of its transaction (migration 0011):

- If it succeeds, the relay is awake, and no notification is sent. The relay cannot sleep before this transaction ends.
- Otherwise the relay sleeps, or is about to, and the commit notifies it.

Once the relay has the lock, it searches again, and sees the rows of every transaction that had the lock before; later
transactions notify it. So no commit is missed. See docs/adr/0002-one-active-relay.md.
"""

import time
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import OperationalError

SLEEPING = 0x0_B0C6
"""The number of an advisory lock. The trigger `outbox_notify` uses the same number."""
CHANNEL = "outbox"
"""The channel that the triggers notify and on which the active relay listens."""
RESCAN = "rescan"
"""The payload if sent or parked rows must be sent again, which may be below the relay's floor."""

SHORTEST_SECONDS, LONGEST_SECONDS = 0.002, 0.02
"""How long to wait for publishers with an open transaction; doubled on each attempt."""


SHORTEST_GATHER_SECONDS, LONGEST_GATHER_SECONDS = 0.01, 0.1
"""While rows keep coming, searches begin at least this long after each other."""
GATHER_SECONDS_PER_ROW = 0.02
"""How much longer for each row that the last search found, from the second on: above 50 rows per second, batches grow."""


class Gathering:
    """How long to wait before the next search, after searches that found something.

    Most of what an event costs in a relay, in the consumers behind it, in PostgreSQL and in Kafka, it costs once per batch. So while
    many rows come, the relay sends few, large batches. A search for the first row after a pause is not delayed, and while rows come one at
    a time, a search is delayed by at most SHORTEST_GATHER_SECONDS.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._next = 0.0

    def searched(self, rows: int, *, all_taken: bool) -> None:
        """Note a search that ends now: how many rows it found, and whether it left none."""
        wanted = min(GATHER_SECONDS_PER_ROW * (rows - 1), LONGEST_GATHER_SECONDS)
        self._next = self._clock() + max(SHORTEST_GATHER_SECONDS, wanted) if rows and all_taken else 0.0

    def seconds(self) -> float:
        """The time to wait."""
        return max(0.0, self._next - self._clock())


class Wakeup:
    """Puts the active relay to sleep, and reports why it woke. Its connection must be in autocommit mode."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._armed = False
        self._pause = SHORTEST_SECONDS

    def begin(self) -> None:
        """Start listening in the session in which the relay has just become active."""
        self._armed = False
        self._pause = SHORTEST_SECONDS
        with self._connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")

    def rescan(self) -> bool:
        """Whether a rescan has been requested since the last call. Does not wait."""
        return RESCAN in self._notified(0.0)

    def awake(self) -> None:
        """Release the lock, since there are rows to send: publishers need not notify."""
        self._pause = SHORTEST_SECONDS
        if self._armed:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [SLEEPING])
            self._armed = False

    def sleep(self, seconds: float) -> bool:
        """Wait up to `seconds` for rows to send; call it if there were none. Returns whether to rescan from the start.

        The first call after `awake` only acquires the lock, so that publishers notify from now on, and returns: rows that
        were committed before must be searched for first. While publishers have open transactions it waits a few milliseconds.
        """
        if self._armed:
            return RESCAN in self._notified(seconds)
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [SLEEPING])
            (self._armed,) = cursor.fetchone()
        if not self._armed:
            time.sleep(min(self._pause, seconds))
            self._pause = min(2 * self._pause, LONGEST_SECONDS)
        return False

    def _notified(self, seconds: float) -> set[str]:
        """The payloads of received notifications; waits up to `seconds` for the first."""
        pg: Any = self._connection.connection
        if pg is None:
            raise OperationalError("no connection")
        return {one.payload for one in pg.notifies(timeout=seconds, stop_after=1)}
