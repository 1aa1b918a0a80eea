"""Events that retention deleted before the group processed them are always reported, on a real broker."""

import zlib

import pytest

from chassis.consumer import replay
from chassis.consumer.consumer import Consumer
from chassis.kafka import clients
from chassis.observability import metrics
from tests.chassis.support.kafka_helpers import committed, delete_before
from tests.chassis.support.loops import running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


@pytest.fixture
def key(scene) -> str:
    """A key whose partition is 0."""
    return next(f"k{n}" for n in range(100) if zlib.crc32(f"k{n}".encode()) % 2 == 0)


def lost(scene) -> float:
    return metrics.EVENTS_LOST.labels(scene.topic)._value.get()


@pytest.fixture
def away(scene, key):
    """The group has handled 50 of 200 events when retention takes the first 150."""
    scene.send(*(scene.event(n, key=key) for n in range(50)))
    with running(Consumer):
        eventually(lambda: len(scene.handled) == 50)
        eventually(lambda: committed(scene) == 50)
    scene.send(*(scene.event(n, key=key) for n in range(50, 200)))
    delete_before(scene.topic, 0, 150)


def test_it_reports_the_number_and_continues(scene, key, away):
    with running(Consumer) as consumer:
        eventually(lambda: scene.numbers(key)[-1:] == [199])
        eventually(lambda: committed(scene) == 200)
        assert consumer.heartbeat.reported("events") == (
            f"up to 100 events of {scene.topic}/0 were deleted before they were processed"
        )
    assert scene.numbers(key) == [*range(50), *range(150, 200)]
    assert lost(scene) == 100
    with running(Consumer) as consumer:
        scene.send(scene.event(200, key=key))
        eventually(lambda: scene.numbers(key)[-1:] == [200])
        assert not consumer.heartbeat.reported("events")
    assert lost(scene) == 100


def test_nothing_new_comes_and_it_says_so_too(scene, key, away):
    delete_before(scene.topic, 0, 200)
    with running(Consumer) as consumer:
        eventually(lambda: "up to 150 events" in consumer.heartbeat.reported("events"))
        eventually(lambda: committed(scene) == 200)
    assert lost(scene) == 150


def test_a_single_offset_may_be_the_end_of_a_transaction_and_is_not_counted(scene, key, away):
    """As on every idle partition that a transaction wrote last, when retention deletes its marker."""
    with running(Consumer):
        eventually(lambda: committed(scene) == 200)
    counted = lost(scene)
    scene.send(scene.event(200, key=key))
    delete_before(scene.topic, 0, 201)
    with running(Consumer) as consumer:
        eventually(lambda: committed(scene) == 201)
        assert not consumer.heartbeat.reported("events")
    assert lost(scene) == counted


def test_it_waits_for_an_operator_if_configured_while_others_proceed(scene, key, away, settings):
    settings.CONSUMER_ON_LOST_EVENTS = "wait"
    other = next(f"o{n}" for n in range(100) if zlib.crc32(f"o{n}".encode()) % 2 == 1)
    with running(Consumer) as consumer:
        eventually(lambda: consumer.heartbeat.reported("events"))
        scene.send(scene.event(1, key=other))
        eventually(lambda: scene.numbers(other) == [1])
        scene.send(scene.event(200, key=key))
        eventually(lambda: committed(scene) == 51)
        assert scene.numbers(key) == list(range(50))
    with running(lambda *loop: Consumer(*loop, accept_lost=True)):
        eventually(lambda: scene.numbers(key) == [*range(50), *range(150, 201)])
        eventually(lambda: committed(scene) == 202)


def test_a_replay_is_not_reported_as_lost_events(scene, key, away):
    replay.rewind(clients.admin(), scene.group, [scene.topic], replay.Start(offset=0))
    with running(Consumer) as consumer:
        eventually(lambda: committed(scene) == 200)
        assert not consumer.heartbeat.reported("events")
    assert lost(scene) == 0


def test_a_new_group_starts_at_the_beginning_and_has_lost_nothing(scene, key):
    scene.send(*(scene.event(n, key=key) for n in range(100)))
    delete_before(scene.topic, 0, 60)
    with running(Consumer) as consumer:
        eventually(lambda: scene.numbers(key) == list(range(60, 100)))
        assert not consumer.heartbeat.reported("events")
    assert lost(scene) == 0


def test_retention_overtakes_a_paused_partition(scene, key, settings):
    """It asks for nothing while it is paused, so the broker is asked where it begins."""
    settings.CONSUMER_HELD_EVENTS, settings.CONSUMER_BATCH_SIZE = 40, 10
    settings.RETRY_ATTEMPTS, settings.RETRY_CAP_SECONDS = 1000, 0.1
    failing = [True]

    def react(scene, received):
        if failing:
            raise ValueError("not yet")

    scene.react = react
    scene.send(*(scene.event(n, key=key) for n in range(300)))
    with running(Consumer) as consumer:
        eventually(lambda: consumer.loop and consumer.loop._pausing.paused)
        delete_before(scene.topic, 0, 200)
        eventually(lambda: consumer.heartbeat.reported("events"))
        failing.clear()
        eventually(lambda: scene.numbers(key)[-1:] == [299])
        handled = scene.numbers(key)
    taken = len(handled) - 100
    assert handled == [*range(taken), *range(200, 300)]
    assert lost(scene) == 200 - taken


def test_held_events_are_not_committed_by_later_losses(scene, key, settings):
    """An event that fails for long, and is gone from Kafka too: when the process ends, it is told as lost."""
    settings.CONSUMER_HELD_EVENTS, settings.CONSUMER_BATCH_SIZE = 40, 10
    settings.RETRY_ATTEMPTS, settings.RETRY_CAP_SECONDS = 1000, 0.1
    failing = {*range(300)}

    def react(scene, received):
        if any(one.event.number in failing for one in received):
            raise ValueError("not yet")

    scene.react = react
    same_partition = [f"k{n}" for n in range(2_000) if zlib.crc32(f"k{n}".encode()) % 2 == 0][:300]
    scene.send(*(scene.event(n, key=other) for n, other in enumerate(same_partition)))
    with running(Consumer) as consumer:
        eventually(lambda: consumer.loop and consumer.loop._pausing.paused)
        delete_before(scene.topic, 0, 200)
        failing &= {3}
        eventually(lambda: len([n for _, n in scene.handled if n >= 200]) == 100)
        eventually(lambda: committed(scene) == 3)
    first = lost(scene)
    with running(Consumer) as consumer:
        eventually(lambda: f"up to 197 events of {scene.topic}/0" in consumer.heartbeat.reported("events"))
        eventually(lambda: committed(scene) == 300)
    assert lost(scene) == first + 197


class Untold(Consumer):
    """A consumer that is told no committed offset when a partition is assigned: its coordinator is just moving, say."""

    def _begin(self, partitions):
        self._client.incremental_assign(partitions)


def test_offsets_missing_on_assignment_are_fetched_later(scene, key):
    """A new group, then one that has lost events: both begin where they should."""
    scene.send(*(scene.event(n, key=key) for n in range(50)))
    with running(Untold):
        eventually(lambda: scene.numbers(key) == list(range(50)))
        eventually(lambda: committed(scene) == 50)
    scene.send(*(scene.event(n, key=key) for n in range(50, 200)))
    delete_before(scene.topic, 0, 150)
    with running(Untold) as consumer:
        eventually(lambda: scene.numbers(key)[-1:] == [199])
        assert consumer.heartbeat.reported("events")
    assert lost(scene) == 100
