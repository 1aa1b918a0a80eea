"""Two processes with one CONSUMER_ID: the fenced one notices, and states what the operator must do."""

import contextlib
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from django.core.management.base import CommandError

from chassis.consumer.consumer import Consumer
from chassis.health.heartbeat import Heartbeat
from chassis.kafka.errors import Fenced, Stranded, Unsure
from chassis.runtime.shutdown import Stop
from chassis.workers.management.commands import consume
from chassis.workers.management.commands.consume import Command, _instruction
from tests.chassis.support.kafka_helpers import servers
from tests.chassis.support.loops import Restarting, Running, running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


@contextlib.contextmanager
def rival(scene, slot: str):
    """Another process in the same slot, which has joined the group."""
    other = KafkaConsumer(servers() | {"group.id": scene.group, "group.instance.id": slot, "session.timeout.ms": 6000,
                                       "partition.assignment.strategy": "cooperative-sticky"})  # fmt: skip
    other.subscribe([scene.topic])
    eventually(lambda: (other.poll(0.1), other.assignment())[1], every=0, what="the rival has the partitions")
    try:
        yield
    finally:
        other.close()


class TestItsPlaceTaken:
    """A fenced client delivers nothing more; polling it forever would look like a live consumer."""

    def test_while_idle(self, scene, settings):
        settings.CONSUMER_ID = "one"
        with contextlib.suppress(Fenced), running(Consumer) as first:
            eventually(lambda: first.loop and first.loop.assigned == 2)
            with rival(scene, "one"):
                eventually(lambda: first.error)
        assert isinstance(first.error, Fenced)

    def test_a_busy_consumer_learns_it_from_its_commit(self, scene, settings):
        settings.CONSUMER_ID = "one"
        taken = contextlib.ExitStack()
        scene.react = lambda scene, received: taken.enter_context(rival(scene, "one"))
        with taken, contextlib.suppress(Fenced), running(Consumer) as first:
            eventually(lambda: first.loop and first.loop.assigned == 2)
            scene.send(scene.event(1))
            eventually(lambda: first.error)
        assert isinstance(first.error, Fenced)


def test_of_two_with_the_same_id_one_reports_the_problem_and_one_works(scene, settings):
    settings.CONSUMER_ID = "worker-0"
    loops = [Running(Restarting), Running(Restarting)]
    [gone] = eventually(lambda: [loop for loop in loops if loop.error])
    [stays] = set(loops) - {gone}
    scene.send(scene.event(1))
    eventually(lambda: scene.handled == [("k", 1)])
    stays.end()
    wanted = f"another running process has the same CONSUMER_ID \\('worker-0' of {scene.group}\\). Give each consumer"
    with pytest.raises(CommandError, match=wanted):
        gone.end()


def test_without_a_consumer_id_there_is_no_fencing(scene, settings):
    settings.CONSUMER_ID = ""
    assert "check the broker" in _instruction(Fenced("by the broker"))


def ends_with(monkeypatch, *errors: Fenced) -> Iterator[Fenced]:
    """Run the command, whose consumer ends with each of these errors, and then as it was told. Returns those that did not occur."""
    left = iter(errors)

    def run(*args, **options) -> None:
        if error := next(left, None):
            raise error

    monkeypatch.setattr(consume, "_run", run)
    Command._consume(Stop(), Heartbeat("consume"))
    return left


@pytest.mark.parametrize("other", [Stranded("no response"), Unsure("no result")])
def test_what_is_no_fencing_is_no_sign_of_a_rival(monkeypatch, other):
    """A broker that stops while a stranded worker starts over fences it, too."""
    assert list(ends_with(monkeypatch, other, Fenced("taken"), other, other)) == []
    with pytest.raises(CommandError, match="fenced twice within"):
        ends_with(monkeypatch, Fenced("taken"), other, Fenced("taken"))
