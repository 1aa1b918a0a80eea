"""The round trips to PostgreSQL, read from libpq's trace of the protocol."""

import re
import tempfile
from collections.abc import Callable
from itertools import pairwise

from django.conf import settings
from django.db import connections
from psycopg.pq import Trace

MESSAGE = re.compile(r"^([FB])\t\d+\t(.*?)(?=^[FB]\t\d+\t|\Z)", re.DOTALL | re.MULTILINE)
"""A message in libpq's trace: from the client (F, frontend) or the server (B, backend), and its content."""


def round_trips(work: Callable[[], object]) -> list[str]:
    """The first message of each round trip to the service's database that `work` causes."""
    connections[settings.SERVICE_DATABASE].ensure_connection()
    client = connections[settings.SERVICE_DATABASE].connection.pgconn
    with tempfile.TemporaryFile("w+") as file:
        client.trace(file.fileno())
        client.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        try:
            work()
        finally:
            client.untrace()
        file.seek(0)
        messages = [("B", ""), *MESSAGE.findall(file.read())]
    return [sent for (before, _), (direction, sent) in pairwise(messages) if (before, direction) == ("B", "F")]


def check(sent: list[str], *expected: tuple[str, ...]) -> None:
    """Check that there were exactly these round trips, each with these texts in this order."""
    assert len(sent) == len(expected), sent
    for message, parts in zip(sent, expected, strict=True):
        position = 0
        for part in parts:
            position = message.find(part, position)
            assert position >= 0, f"no {part} in {message}"
