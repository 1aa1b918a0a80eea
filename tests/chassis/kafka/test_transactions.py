"""The transactional consumer reads, publishes and commits atomically, even if it is killed in between."""

import uuid
from typing import Any

import pytest

from chassis.consumer.consumer import Consumer
from chassis.consumer.kafka_publisher import collecting
from chassis.events import Event, Outgoing, publish_all
from chassis.kafka import clients
from chassis.kafka.errors import Fenced
from chassis.runtime.dependency import Dependency
from tests.chassis.support.kafka_helpers import Reader, committed, headers, make_topic, new_topic, read
from tests.chassis.support.loops import running
from tests.waiting import eventually

pytestmark = pytest.mark.service("payments")


@pytest.fixture
def out(scene) -> str:
    """A topic to which the handler of the scene says each number again, under the id `said-NUMBER`."""
    topic = new_topic("out")

    class Said(Event):
        number: int

    Said.topic = topic

    def react(scene: Any, received: Any) -> None:
        publish_all(
            Outgoing(Said(number=one.event.number), one.key, one, event_id=f"said-{one.event.number}")
            for one in received
        )

    scene.react = react
    return topic


def test_publishes_and_commits_together_once_each(scene, out):
    scene.send(*(scene.event(n, key=f"k{n % 5}") for n in range(200)))
    with running(Consumer):
        messages = read(out, 200)
        eventually(lambda: committed(scene) == 200)
    assert sorted(headers(m)["ce_id"] for m in messages) == sorted(f"said-{n}" for n in range(200))
    assert {headers(m)["requestId"] for m in messages} == {f"req-{n}" for n in range(200)}


def test_a_handler_that_fails_publishes_nothing(scene, out):
    says = scene.react

    def react(scene: Any, received: Any) -> None:
        says(scene, received)
        if any(one.event.number == 3 for one in received):
            raise ValueError("three")

    scene.react = react
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(10)))
    with running(Consumer):
        messages = read(out, 9)
        [letter] = read(scene.dead_letter_topic, 1)
        eventually(lambda: committed(scene) == 10)
    assert sorted(headers(m)["ce_id"] for m in messages) == sorted(f"said-{n}" for n in range(10) if n != 3)
    said = headers(letter)
    assert (said["deadletter-reason"], said["deadletter-attempts"]) == ("handler", "3")
    assert letter.value() == b'{"number": 3}'


def test_the_open_transaction_of_a_dead_worker_is_aborted_by_its_successor(scene, out, settings):
    """The first worker's transaction stays open, as after kill -9; the next one under its id goes on at once."""
    settings.CONSUMER_ID = f"{scene.group}-0"
    settings.KAFKA_TRANSACTION_TIMEOUT_SECONDS = 60
    died = clients.open_transactional(lambda: None, Dependency("broker"))
    died.begin_transaction()
    died.produce(out, b"never", b"k1", headers=[("ce_id", "never")])
    died.flush(10)
    scene.send(scene.event(1))
    with running(Consumer):
        messages = read(out, 1, within=60)
    assert [headers(m)["ce_id"] for m in messages] == ["said-1"]


def test_a_fenced_worker_stops_and_writes_nothing_more(scene, out, settings):
    settings.CONSUMER_ID = f"{scene.group}-0"
    reader = Reader(out)
    loop = running(Consumer)
    first = loop.__enter__()
    eventually(lambda: first.loop and first.loop.assigned == 2)
    clients.open_transactional(lambda: None, Dependency("broker"))  # the same id: what a successor's start does
    scene.send(scene.event(1))
    eventually(lambda: first.error)
    with pytest.raises(Fenced):
        loop.__exit__(None, None, None)
    assert reader.read() == []
    reader.close()


def test_a_missing_dead_letter_topic_is_waited_for_while_others_proceed(scene, out, settings):
    settings.SERVICE_NAME = scene.group = f"group-{uuid.uuid4().hex[:8]}"
    scene.send((b"bad", b"junk", [("ce_id", b"1")]), *(scene.event(n, key=f"k{n}") for n in range(20)))
    with running(Consumer) as consumer:
        messages = read(out, 20)
        eventually(lambda: consumer.heartbeat.waits_for("broker"))
        eventually(lambda: committed(scene) >= 8)
        assert committed(scene) < 21
        make_topic(scene.dead_letter_topic)
        [letter] = read(scene.dead_letter_topic, 1, within=60)
        eventually(lambda: committed(scene) == 21)
        eventually(lambda: not consumer.heartbeat.waits_for("broker"))
    assert len(messages) == 20
    said = headers(letter)
    assert (letter.value(), said["deadletter-reason"], said["deadletter-attempts"]) == (b"junk", "unreadable", "1")


def test_a_failing_set_publishes_nothing():
    """A handler may catch the error and go on: either all of a set is published, or none."""

    class Said(Event):
        topic = "said"

    def some():
        yield Outgoing(Said(), "k")
        raise ValueError("the second one")

    with collecting() as collected:
        with pytest.raises(ValueError, match="second"):
            publish_all(some())
        assert collected.envelopes == []
        publish_all([Outgoing(Said(), "k")])
        assert len(collected.envelopes) == 1


def test_a_record_that_the_broker_never_accepts_is_the_events_fault(scene, out, settings):
    says, settings.RETRY_ATTEMPTS = scene.react, 2
    settings.KAFKA_MAX_MESSAGE_BYTES = 20_000

    class Large(Event):
        text: str

    Large.topic = out

    def react(scene: Any, received: Any) -> None:
        says(scene, received)
        if any(one.event.number == 3 for one in received):
            publish_all([Outgoing(Large(text="x" * 200_000), "k")])

    scene.react = react
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(6)))
    with running(Consumer):
        messages = read(out, 5)
        [letter] = read(scene.dead_letter_topic, 1)
    assert len(messages) == 5
    assert "MSG_SIZE_TOO_LARGE" in headers(letter)["deadletter-error"]
