"""Handlers that return although their transaction cannot be committed: their events fail, and none is lost without a word."""

import contextlib

import pytest
from django.db import IntegrityError, connections, transaction

from chassis.consumer.consumer import Consumer
from chassis.events import publish_all
from chassis.messaging.models import InboxEvent, OutboxEvent
from tests.chassis.support.kafka_helpers import committed
from tests.chassis.support.loops import running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


def effect(name: str) -> None:
    """A row in the service's database, as its own state would be."""
    InboxEvent.objects.create(event_id=name, source="test", topic="effect", key=name, request_id="r")


def catches_an_integrity_error() -> None:
    effect("twice")
    with contextlib.suppress(IntegrityError):
        effect("twice")


def catches_an_error_of_a_statement() -> None:
    try:
        with connections["users"].cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
    except Exception:
        pass


def catches_an_error_of_publish() -> None:
    def events():
        raise ValueError("no event")
        yield

    with contextlib.suppress(ValueError):
        publish_all(events())


def sets_rollback() -> None:
    transaction.set_rollback(True, using="users")


def closes_the_connection() -> None:
    connections["users"].close()


def rolls_back() -> None:
    with connections["users"].cursor() as cursor:
        cursor.execute("ROLLBACK")


@pytest.mark.parametrize(
    "misdeed",
    [
        catches_an_integrity_error,
        catches_an_error_of_a_statement,
        catches_an_error_of_publish,
        sets_rollback,
        closes_the_connection,
        rolls_back,
    ],
)
def test_only_the_guilty_is_dead_lettered_and_all_others_take_effect(scene, misdeed):
    def react(scene, received):
        for one in received:
            effect(f"effect-{one.event.number}")
        if any(one.event.number == 13 for one in received):
            misdeed()

    scene.react = react
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(40)))
    with running(Consumer):
        eventually(lambda: InboxEvent.objects.filter(topic="effect", key__startswith="effect-").count() == 39)
        # Where the error looks like the database's, others that get through tell that it is the event's own.
        scene.send(*(scene.event(n, key=f"k{n}") for n in range(100, 140)))
        [dead] = eventually(lambda: list(OutboxEvent.objects.filter(topic=scene.dead)), within=120)
        eventually(lambda: committed(scene) == 80)
    assert dead.key == "k13"
    effects = set(InboxEvent.objects.filter(topic="effect", key__startswith="effect-").values_list("key", flat=True))
    assert effects == {f"effect-{n}" for n in (*range(40), *range(100, 140)) if n != 13}


def test_what_cannot_be_read_is_no_misdeed_of_a_handler(scene):
    """A batch without a readable event makes no statement but its dead letters."""
    scene.send((b"k", b"junk", [("ce_id", b"1")]))
    with running(Consumer):
        [dead] = eventually(lambda: list(OutboxEvent.objects.filter(topic=scene.dead)))
    assert dict(dead.headers)["deadletter-reason"] == "unreadable"
    assert dict(dead.headers)["deadletter-attempts"] == "1"
