"""How much waits in the outbox, and for how long: measured beside the relay, in a thread and a session of its own.

So it costs the sending loop nothing, and goes on while that waits for a broker. What is asked is bounded: rows are looked
for above the relay's floor (floor.py) and counted up to COUNTED; beyond that their number is estimated.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from django.conf import settings
from django.db import Error, connections

from chassis.observability import metrics
from chassis.runtime.background import beside

EVERY_SECONDS = 5.0
COUNTED = metrics.COUNTED_EXACTLY

# A hint: what a restored or emptied table has not reached again is no place to begin.
FLOOR = "coalesce((SELECT position FROM outbox_floor WHERE position <= (SELECT max(position) FROM outbox)), 0)"
OLDEST = f"""
SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM outbox
WHERE position > {FLOOR} AND sent_at IS NULL AND parked_at IS NULL ORDER BY position LIMIT 1
"""  # noqa: S608  constants
# If there are more than are counted: nearly all that come after those wait, too.
WAITING = f"""
SELECT CASE WHEN count(*) <= %(counted)s THEN count(*)
            ELSE %(counted)s + (SELECT max(position) FROM outbox) - max(position) + 1 END
FROM (SELECT position FROM outbox WHERE position > {FLOOR} AND sent_at IS NULL AND parked_at IS NULL
      ORDER BY position LIMIT %(counted)s + 1) AS waiting
"""  # noqa: S608  constants
PARKED = """
SELECT count(*) FROM (SELECT 1 FROM outbox
WHERE sent_at IS NULL AND parked_at IS NOT NULL AND discarded_at IS NULL LIMIT %(counted)s) AS parked
"""
BY_INDEX = "SET enable_seqscan = off"
"""This session only. Statistics from a moment when most rows waited would make the planner read the whole table."""
KEEP_FLOOR = """
INSERT INTO outbox_floor (position) VALUES (%s)
ON CONFLICT (only_row) DO UPDATE SET position = excluded.position WHERE outbox_floor.position <> excluded.position
"""


class Sending(Protocol):
    """The relay, as its gauges see it."""

    @property
    def floor(self) -> int | None:
        """The position up to which no row waits, if this relay is the one that sends."""


def oldest_age(cursor: Any) -> float | None:
    """Seconds since the oldest row that waits to be sent was written; None if none does. Costs the same in any table."""
    cursor.execute(OLDEST)
    found = cursor.fetchone()
    return None if found is None else max(0.0, found[0])


class OutboxGauges:
    """Sets the gauges of the outbox. What the database cannot be asked stays as it was, but for the age, which grows."""

    def __init__(self, relay: Sending) -> None:
        self._relay = relay
        self._oldest: float | None = None

    def measure(self) -> None:
        """Ask the database; a dead one is the relay's to complain about."""
        connection = connections[settings.SERVICE_DATABASE]
        try:
            with connection.cursor() as cursor:
                self._measure(cursor)
        except Error:
            connection.close()
        metrics.OUTBOX_OLDEST_AGE.set(0.0 if self._oldest is None else time.monotonic() - self._oldest)

    def _measure(self, cursor: Any) -> None:
        cursor.execute(BY_INDEX)
        if (floor := self._relay.floor) is not None:
            cursor.execute(KEEP_FLOOR, [floor])
        age = oldest_age(cursor)
        self._oldest = None if age is None else time.monotonic() - age
        for gauge, question in ((metrics.OUTBOX_PENDING, WAITING), (metrics.OUTBOX_PARKED, PARKED)):
            cursor.execute(question, {"counted": COUNTED})
            (number,) = cursor.fetchone()
            gauge.set(number)


@contextmanager
def measuring(relay: Sending) -> Iterator[None]:
    """Measure every EVERY_SECONDS while the body runs. Every relay does, also one that stands by: an outage has no gaps."""
    with beside("outbox-gauges", partial(_keep_measuring, relay)):
        yield


def _keep_measuring(relay: Sending, ended: threading.Event) -> None:
    gauges = OutboxGauges(relay)
    while not ended.is_set():
        gauges.measure()
        ended.wait(EVERY_SECONDS)
    connections[settings.SERVICE_DATABASE].close()
