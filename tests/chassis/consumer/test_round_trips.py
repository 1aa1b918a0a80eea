"""How many round trips to PostgreSQL a batch takes, read from libpq's trace of the protocol."""

import re
import tempfile
from itertools import pairwise

import pytest
from django.db import connections
from psycopg.pq import Trace

from chassis.consumer.database_transaction import DatabaseTransaction
from chassis.events.registry import Handler
from tests.chassis.consumer.test_one_transaction import Noted, batch, marked, sql

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)

MESSAGE = re.compile(r"^([FB])\t\d+\t(.*?)(?=^[FB]\t\d+\t|\Z)", re.DOTALL | re.MULTILINE)
"""A message in libpq's trace: from the client (F, frontend) or the server (B, backend), and its content."""


def round_trips(work) -> list[str]:
    """The first message of each round trip to the database that `work` causes."""
    connections["users"].ensure_connection()
    client = connections["users"].connection.pgconn
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


@pytest.mark.parametrize("size", [1, 500])
def test_a_batch_takes_three_round_trips_and_those_of_its_handlers(size):
    """The begin; the mark and the inbox; the removal of the mark, the commit and the reset of the session."""
    unit = DatabaseTransaction(None, {"noted": Handler(Noted, lambda received: sql("SELECT 4711")())})
    sent = round_trips(lambda: unit.process(batch(*range(size)), {}))
    expected = ["BEGIN", "INSERT INTO inbox", "SELECT 4711", "COMMIT"]
    assert len(sent) == len(expected), sent
    assert all(part in message for part, message in zip(expected, sent, strict=True)), sent
    assert len(marked()) == size
