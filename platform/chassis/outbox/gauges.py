"""The gauges of the outbox: the number of waiting rows and the age of the oldest, measured in a separate thread and session.

Measuring does not delay the relay's loop, and continues while that waits for a broker. The cost of the queries is bounded:
they search above the relay's floor (floor.py) and count up to COUNTED rows; beyond that the number is estimated.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import structlog
from django.conf import settings
from django.db import Error, connections

from chassis.observability import metrics
from chassis.observability.measures import measures
from chassis.outbox import server_connections
from chassis.runtime.background import in_background

log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
COUNTED = metrics.COUNTED_EXACTLY

# The stored floor is only a hint: it is ignored if it is beyond the last row, as in a restored or truncated table.
FLOOR = "coalesce((SELECT position FROM outbox_floor WHERE position <= (SELECT max(position) FROM outbox)), 0)"
OLDEST = f"""
SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM outbox
WHERE position > {FLOOR} AND sent_at IS NULL AND parked_at IS NULL ORDER BY position LIMIT 1
"""  # noqa: S608  constants
# If there are more rows than are counted, nearly all rows after those wait too.
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
"""For this session only. With statistics from a time at which most rows waited, the planner would read the whole table."""
BRIEFLY = "SET statement_timeout = '1s'"
KEEP_FLOOR = """
INSERT INTO outbox_floor (position) VALUES (%s)
ON CONFLICT (only_row) DO UPDATE SET position = excluded.position WHERE outbox_floor.position <> excluded.position
"""


class Sending(Protocol):
    """What the gauges need to know about the relay."""

    @property
    def floor(self) -> int | None:
        """The position up to which no row waits, if this relay is the active one."""


def oldest_age(cursor: Any) -> float | None:
    """The age of the oldest unsent row in seconds, or None if there is none. The cost does not depend on the table's size."""
    cursor.execute(OLDEST)
    found = cursor.fetchone()
    return None if found is None else max(0.0, found[0])


class OutboxGauges:
    """Sets the gauges of the outbox. If the database does not respond they keep their values, except the age, which grows."""

    def __init__(self, relay: Sending) -> None:
        self._relay = relay
        self._oldest: float | None = None

    def measure(self) -> None:
        """Query the database. Its errors are ignored, since the relay reports them."""
        connection = connections[settings.SERVICE_DATABASE]
        try:
            with connection.cursor() as cursor:
                self._measure(cursor)
                server_connections.measure(cursor)
                _measure_service(cursor)
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


def _measure_service(cursor: Any) -> None:
    """Call the functions of the service, whose statements may take a second each."""
    cursor.execute(BRIEFLY)
    for measure in measures():
        try:
            measure(cursor)
        except Error:
            raise
        except Exception:
            log.exception("a function that measures gauges failed", function=getattr(measure, "__name__", ""))
    cursor.execute("RESET statement_timeout")


@contextmanager
def measuring(relay: Sending) -> Iterator[None]:
    """Measure every EVERY_SECONDS while the body runs. Standbys measure too, so that the metrics have no gaps in an outage."""
    with in_background("outbox-gauges", partial(_keep_measuring, relay)):
        yield


def _keep_measuring(relay: Sending, ended: threading.Event) -> None:
    gauges = OutboxGauges(relay)
    while not ended.is_set():
        gauges.measure()
        ended.wait(EVERY_SECONDS)
    connections[settings.SERVICE_DATABASE].close()
