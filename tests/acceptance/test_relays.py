"""Two relays and one key: a thousand events arrive in order although the active relay is killed."""

import threading
import time
import uuid

import pytest

from tests.acceptance.topics import Topics
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

EVENTS = 1_000
TOGETHER = 10
WRITE = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id)
SELECT gen_random_uuid(), %s, 'one', convert_to(n::text, 'UTF8'), '[]', '' FROM generate_series(%s::int, %s) AS n
"""


@pytest.fixture
def read(harness, topics):
    """A topic of this test's own, as the numbers that stand on it; the relay sends to whatever a row says."""
    name = f"relays-{uuid.uuid4()}"
    topics.create(name, 3)
    with Topics(harness.engines.kafka.bootstrap_servers, [name]) as own:
        yield lambda: [int(record.value) for record in own.of(name)], name


def write(system, topic: str) -> None:
    """Publish 0 to 999 in small transactions, one after the other, side by side with the relays."""
    with system.database("userdb") as connection:
        for first in range(0, EVENTS, TOGETHER):
            connection.execute(WRITE, [topic, first, first + TOGETHER - 1])
            time.sleep(0.005)


def only_active(*relays):
    """The one relay that sends; an AssertionError unless there is exactly one."""
    [sending] = [relay for relay in relays if relay.metric("outbox_relay_active")]
    return sending


def test_a_thousand_events_of_one_key_in_order(system, read):
    numbers, topic = read
    relays = system.start("users-relay", "users-relay-1", OUTBOX_BATCH_SIZE="20")
    first = eventually(lambda: only_active(*relays))
    second = next(relay for relay in relays if relay is not first)

    writer = threading.Thread(target=write, args=(system, topic))
    writer.start()
    eventually(lambda: len(numbers()) >= EVENTS // 2, every=0.001)
    first.kill9()
    had = len(numbers())
    eventually(lambda: len(numbers()) > had, what="the other relay takes over")
    writer.join()
    system.start(first.name, OUTBOX_BATCH_SIZE="20")
    eventually(lambda: set(range(EVENTS)) <= set(numbers()), what="all events are on Kafka")
    eventually(
        lambda: (
            system.rows("userdb", "SELECT count(*) FROM outbox WHERE topic = %s AND sent_at IS NULL", topic) == [(0,)]
        )
    )

    arrived = numbers()
    assert had < EVENTS, "all was sent before the relay was killed"
    # A batch that was sent and not marked is sent again, whole: its readers know the repeats by their ids.
    assert list(dict.fromkeys(arrived)) == list(range(EVENTS))
    assert len(arrived) <= EVENTS + 20
    assert second.metric("outbox_relay_active") == 1
