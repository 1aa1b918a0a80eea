"""How a relay that sleeps is woken by the commit of a publisher, without a price for publishers while it is awake.

NOTIFY in a transaction makes its commit take a lock that the whole PostgreSQL server has once, so it is only used while
the relay sleeps. Before it does, it takes the advisory lock SLEEPING for its session. A publisher's trigger tries to take
the same lock shared, until the end of its transaction (migration 0007):

- It gets it: the relay is awake, and nothing is notified. The relay cannot fall asleep before this transaction has ended.
- It does not: the relay sleeps, or is about to, and the commit notifies it.

Once the relay has the lock it looks once more, and sees all that was committed by those who had it before; whoever comes
later notifies. So no commit is missed. See docs/adr/0002-one-active-relay.md.
"""

import time
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import OperationalError

SLEEPING = 0x0_B0C6
"""An advisory lock of the database. The trigger `outbox_notify` has the same number."""
CHANNEL = "outbox"
"""The channel that triggers notify; the active relay listens to it."""
RESCAN = "rescan"
"""Payload: rows that were sent or parked are to be sent again, so there may be some before those that were looked at last."""

SHORTEST_SECONDS, LONGEST_SECONDS = 0.002, 0.02
"""How long to wait for publishers that are in the midst of a transaction: doubled while the same ones are."""


class Wakeup:
    """Puts the active relay to sleep, and tells it why it woke. Its connection must be in autocommit mode."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._armed = False
        self._pause = SHORTEST_SECONDS

    def begin(self) -> None:
        """Listen, in the session in which the relay has just become the active one."""
        self._armed = False
        self._pause = SHORTEST_SECONDS
        with self._connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")

    def rescan(self) -> bool:
        """Whether it was notified since the last call that rows are to be sent again. Waits for nothing."""
        return RESCAN in self._notified(0.0)

    def awake(self) -> None:
        """There is something to send: publishers need not notify."""
        self._pause = SHORTEST_SECONDS
        if self._armed:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [SLEEPING])
            self._armed = False

    def sleep(self, seconds: float) -> bool:
        """Wait at most so long for something to send; call it when nothing was found. Returns whether to scan from the start.

        The first call after `awake` only makes sure that publishers notify from now on: what they committed before must be
        looked for first, so it returns at once. While some are in the midst of a transaction it waits a few milliseconds.
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
        """The payloads that have come; waits so long for the first."""
        pg: Any = self._connection.connection
        if pg is None:
            raise OperationalError("no connection")
        return {one.payload for one in pg.notifies(timeout=seconds, stop_after=1)}
