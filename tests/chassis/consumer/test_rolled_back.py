"""Handlers that return although their transaction cannot be committed: their events fail, and none is lost silently."""

import contextlib
import itertools

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


def commits() -> None:
    with connections["users"].cursor() as cursor:
        cursor.execute("COMMIT")


def terminates_its_session() -> None:
    with connections["users"].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


MISDEEDS = [
    catches_an_integrity_error,
    catches_an_error_of_a_statement,
    catches_an_error_of_publish,
    sets_rollback,
    closes_the_connection,
    commits,
    terminates_its_session,
]


def test_only_failing_events_are_dead_lettered_and_all_others_take_effect(scene):
    guilty = {5 * n + 3: misdeed for n, misdeed in enumerate(MISDEEDS)}
    sent = itertools.count()

    def react(scene, received):
        for one in received:
            effect(f"effect-{one.event.number}")
            if misdeed := guilty.get(one.event.number):
                misdeed()

    def wave(size: int) -> list[OutboxEvent]:
        """Send more events; where an error looks like the database's, others that get through tell that it is the event's."""
        numbers = list(itertools.islice(sent, size))
        scene.send(*(scene.event(n, key=f"k{n}") for n in numbers))
        eventually(lambda: f"effect-{numbers[-1]}" in effects())
        return list(OutboxEvent.objects.filter(topic=scene.dead_letter_topic))

    def effects() -> set[str]:
        found = InboxEvent.objects.filter(topic="effect", key__startswith="effect-")
        return set(found.values_list("key", flat=True))

    scene.react = react
    with running(Consumer):
        wave(40)
        dead = eventually(lambda: len(letters := wave(2)) == len(guilty) and letters, within=120)
        last = next(sent)
        eventually(lambda: committed(scene) == last)
    assert {letter.key for letter in dead} == {f"k{n}" for n in guilty}
    assert effects() == {f"effect-{n}" for n in range(last) if n not in guilty}
    errors = {letter.key: dict(letter.headers)["deadletter-error"] for letter in dead}
    numbers = {misdeed: number for number, misdeed in guilty.items()}
    assert "RolledBack" in errors[f"k{numbers[catches_an_integrity_error]}"]
    assert "TransactionEnded" in errors[f"k{numbers[closes_the_connection]}"]
    assert "a handler tried to commit" in errors[f"k{numbers[commits]}"]


def test_unreadable_records_do_not_count_against_a_handler(scene):
    """A batch without a readable event makes no statement but its dead letters."""
    scene.send((b"k", b"junk", [("ce_id", b"1")]))
    with running(Consumer):
        [dead] = eventually(lambda: list(OutboxEvent.objects.filter(topic=scene.dead_letter_topic)))
    assert dict(dead.headers)["deadletter-reason"] == "unreadable"
    assert dict(dead.headers)["deadletter-attempts"] == "1"
