"""From a dead letter to its effect: consumer, relay, a repaired handler, and a redrive."""

from typing import Any

import pytest

from chassis.consumer.consumer import Consumer
from chassis.deadletters import redrive, store
from chassis.deadletters.store import Store, StoredDeadLetter, Wanted
from chassis.events import Event, Outgoing, publish_all
from chassis.kafka.patience import Patience
from chassis.messaging.models import InboxEvent, OutboxEvent
from chassis.outbox.relay import Relay
from tests.chassis.support import dead_letters
from tests.chassis.support.kafka_helpers import committed, headers, new_topic, read
from tests.chassis.support.loops import running
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def consumed(scene, monkeypatch) -> None:
    monkeypatch.setattr(store, "registered", lambda: {scene.topic: None})


def unresolved() -> list[StoredDeadLetter]:
    return list(Store(Patience(30)).unresolved(Wanted()))


def redrive_all() -> list[str]:
    return redrive.Run(action="redriven", wanted=Wanted(), by="ada", patience=Patience(30)).run().done


def broken(scene: Any, received: Any) -> None:
    if any(one.event.number % 2 for one in received):
        raise ValueError("odd")


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_with_a_database_the_effect_happens_once(scene, settings):
    settings.RETRY_ATTEMPTS = 1
    scene.react = broken
    scene.send(*(scene.event(n, key=f"k{n}", event_id=f"event-{n}") for n in range(10)))
    scene.send((b"k", b"\xff junk", [("ce_id", b"junk")]))
    with running(Consumer), running(Relay):
        dead = eventually(lambda: found if len(found := unresolved()) == 6 else None)
        assert InboxEvent.objects.count() == 5
        assert {one.header("reason") for one in dead} == {"handler", "unreadable"}

        scene.react = lambda scene, received: None  # repaired
        assert len(redrive_all()) == 6
        eventually(lambda: len(scene.handled) == 10)
        again = eventually(unresolved)
    assert sorted(number for _, number in scene.handled) == list(range(10))
    assert InboxEvent.objects.count() == 10
    [junk] = again
    assert junk.record.value == b"\xff junk"
    assert junk.id not in {one.id for one in dead}, "another death, another letter"
    assert junk.header("redriven-from") in {one.id for one in dead}
    assert [name for name, _ in junk.original_headers()] == ["ce_id"]


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_events_processed_meanwhile_are_not_processed_again(scene, settings):
    """The inbox knows an event by its ce_id, whichever way it comes."""
    settings.RETRY_ATTEMPTS = 1
    scene.react = broken
    scene.send(scene.event(1, event_id="event-1"))
    with running(Consumer), running(Relay):
        eventually(unresolved)
        scene.react = lambda scene, received: None
        scene.send(scene.event(1, event_id="event-1"))
        eventually(lambda: len(scene.handled) == 1)
        redrive_all()
        scene.send(scene.event(2))
        eventually(lambda: scene.numbers("k")[-1:] == [2])
    assert scene.numbers("k") == [1, 2]


def redriven_for(group: str, event: tuple[bytes, bytes, list]) -> tuple[bytes, bytes, list]:
    key, value, kept = event
    return key, value, [*kept, ("deadletter-redriven", "letter"), ("deadletter-redriven-for", group)]


@pytest.mark.parametrize("has_database", [True, False])
@pytest.mark.django_db(databases=["users"], transaction=True)
def test_a_group_skips_events_redriven_for_another(scene, settings, has_database):
    """It has met that event as it came first; by now its inbox, which is empty here, may have forgotten it."""
    settings.SERVICE_DATABASE = "users" if has_database else None
    scene.send(redriven_for("another-group", scene.event(1)), redriven_for(scene.group, scene.event(2)))
    scene.send((b"k", b"\xff junk", [("ce_id", b"junk"), ("deadletter-redriven-for", b"another-group")]))
    scene.send(scene.event(3))
    with running(Consumer):
        eventually(lambda: committed(scene) == 4)
    assert scene.numbers("k") == [2, 3]
    if has_database:
        assert (InboxEvent.objects.count(), OutboxEvent.objects.count()) == (2, 0)
    else:
        assert dead_letters.everything(scene.dead_letter_topic) == []


@pytest.mark.service("payments")
def test_without_a_database_the_effect_happens_once(scene, settings):
    """Payments: letters, redriven events, effects and offsets, all in Kafka transactions."""
    settings.RETRY_ATTEMPTS = 1
    out = new_topic("out")

    class Said(Event):
        number: int

    Said.topic = out

    def repaired(scene: Any, received: Any) -> None:
        publish_all(
            Outgoing(Said(number=one.event.number), one.key, one, event_id=f"said-{one.id}") for one in received
        )

    def react(scene: Any, received: Any) -> None:
        broken(scene, received)
        repaired(scene, received)

    scene.react = react
    scene.send(*(scene.event(n, key=f"k{n}", event_id=f"event-{n}") for n in range(10)))
    with running(Consumer):
        dead = eventually(lambda: found if len(found := unresolved()) == 5 else None)
        scene.react = repaired
        assert sorted(redrive_all()) == sorted(one.id for one in dead)
        read(out, 10)
    assert sorted(headers(message)["ce_id"] for message in dead_letters.everything(out)) == sorted(
        f"said-event-{n}" for n in range(10)
    )
    assert unresolved() == []
