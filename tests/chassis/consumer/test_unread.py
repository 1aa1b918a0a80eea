"""A partition that the client owns but does not read, without an error, is noticed, and a new client reads it."""

import contextlib
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition

from chassis.consumer import unread
from chassis.consumer.consumer import Consumer
from chassis.consumer.unread import CHECKS, UnreadPartitions
from chassis.kafka import clients
from chassis.kafka.errors import Stranded
from tests.chassis.support import kafka_helpers as kafka
from tests.chassis.support.loops import Restarting, Running, running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(unread, "EVERY_SECONDS", 0.2)
    monkeypatch.setattr(unread, "ANSWER_SECONDS", 2.0)


@pytest.fixture
def compared(monkeypatch) -> list[set]:
    """The partitions of each comparison."""
    seen: list[set] = []
    compare = UnreadPartitions._compare

    def record(self: UnreadPartitions) -> None:
        if self._asked:
            seen.append(set(self._asked))
        compare(self)

    monkeypatch.setattr(UnreadPartitions, "_compare", record)
    return seen


@pytest.fixture
def made(monkeypatch) -> list:
    """The clients of all consumers of this test."""
    found: list = []
    make = clients.consumer
    monkeypatch.setattr(clients, "consumer", lambda *given, **more: found.append(make(*given, **more)) or found[-1])
    return found


def send(scene, partition: int, *numbers: int) -> None:
    """Each number to a partition, under a key of its own."""
    producer = kafka.producer()
    for number in numbers:
        key, value, headers = scene.event(number, key=f"k{number}")
        producer.produce(scene.topic, value, key, partition, headers=headers)
    assert producer.flush(30) == 0


def handled(scene) -> list[int]:
    return sorted(number for _, number in scene.handled)


def ready(loop: Running) -> None:
    eventually(lambda: loop.loop and loop.loop.assigned == 2)


def not_read(client, scene, partition: int) -> None:
    """Bring a client into the state: it does not deliver the records of a partition, and reports nothing."""
    client.pause([TopicPartition(scene.topic, partition)])


class TestPartitionThatIsNotRead:
    def test_is_an_error_that_names_it(self, scene):
        with contextlib.suppress(Stranded), running(Consumer) as loop:
            ready(loop)
            not_read(loop.loop._client, scene, 1)
            send(scene, 1, 1, 2)
            eventually(lambda: loop.error)
        assert isinstance(loop.error, Stranded)
        assert f"does not deliver the records of {scene.topic}/1" in str(loop.error)
        assert handled(scene) == []

    @pytest.mark.parametrize("before", [0, 5])
    def test_a_new_client_reads_it_and_nothing_is_handled_twice(self, scene, made, before):
        send(scene, 0, *range(before))
        with running(Restarting):
            send(scene, 1, 100)
            eventually(lambda: len(handled(scene)) == before + 1)
            not_read(made[0], scene, 0)
            send(scene, 0, *range(10, 15))
            eventually(lambda: handled(scene) == [*range(before), *range(10, 15), 100])
        assert len(made) == 2

    def test_also_while_others_are_busy(self, scene, made):
        sent = 0
        with running(Restarting):
            send(scene, 0, 0)
            eventually(lambda: handled(scene) == [0])
            not_read(made[0], scene, 0)
            send(scene, 0, 1)

            def busy() -> bool:
                nonlocal sent
                send(scene, 1, 1_000 + sent)
                sent += 1
                return 1 in handled(scene)

            eventually(busy)
            eventually(lambda: len(handled(scene)) == 2 + sent)


class TestNoMistake:
    """Some partitions are not read on purpose, or have an end that no record has."""

    def stays(self, loop: Running, compared: list, condition: Callable[[], bool] = lambda: True) -> None:
        before = len(compared)
        eventually(lambda: loop.error or len(compared) > before + 2 * CHECKS)
        assert loop.error is None
        assert condition()

    def test_idle(self, scene, compared):
        send(scene, 0, 1)
        with running(Consumer) as loop:
            eventually(lambda: handled(scene) == [1])
            self.stays(loop, compared)
        assert compared[-1] == {(scene.topic, 0), (scene.topic, 1)}

    def test_behind_open_and_aborted_transactions(self, scene, compared):
        producer = Producer({**kafka.servers(), "transactional.id": scene.group})
        producer.init_transactions(30)
        for _ in range(3):
            producer.begin_transaction()
            producer.produce(scene.topic, b"aborted", partition=0)
            assert producer.flush(30) == 0
            producer.abort_transaction(30)
        producer.begin_transaction()
        producer.produce(scene.topic, b"open", partition=0)
        assert producer.flush(30) == 0
        send(scene, 0, 1)
        with running(Consumer) as loop:
            ready(loop)
            self.stays(loop, compared, lambda: handled(scene) == [])
            producer.abort_transaction(30)
            eventually(lambda: handled(scene) == [1])
            self.stays(loop, compared)

    def test_paused_because_too_much_waits(self, scene, settings, compared):
        settings.CONSUMER_HELD_EVENTS = 8
        settings.RETRY_ATTEMPTS = 1_000

        def react(scene, received) -> None:
            if any(one.event.number == 0 for one in received):
                raise ValueError("it fails")

        scene.react = react
        scene.send(*(scene.event(number, key="one") for number in range(40)))
        with running(Consumer) as loop:
            eventually(lambda: loop.loop and loop.loop._pausing.paused)
            [paused] = loop.loop._pausing.paused
            send(scene, paused[1], 100)
            self.stays(loop, compared, lambda: paused in loop.loop._pausing.paused)
        assert paused not in compared[-1]

    def test_waiting_for_a_decision_about_lost_events(self, scene, settings, compared):
        settings.CONSUMER_ON_LOST_EVENTS = "wait"
        send(scene, 0, 0)
        with running(Consumer):
            eventually(lambda: handled(scene) == [0])
        send(scene, 0, *range(1, 10))
        kafka.delete_before(scene.topic, 0, 8)
        with running(Consumer) as loop:
            eventually(lambda: loop.loop and loop.loop._lost.not_read)
            send(scene, 0, 10)
            self.stays(loop, compared, lambda: handled(scene) == [0])
