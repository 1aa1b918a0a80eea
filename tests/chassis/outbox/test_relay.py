"""The relay on a real broker: every row is acknowledged once, in order, by one relay at a time."""

import uuid
from contextlib import closing
from typing import ClassVar

import pytest
from django.db import connections, transaction

from chassis.events import Event, Outgoing, publish_all
from chassis.messaging.models import OutboxEvent
from chassis.outbox.relay import LOCK, Relay
from tests.chassis.support.kafka_helpers import headers, new_topic, read
from tests.chassis.support.loops import running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


class Noted(Event):
    """Something was noted."""

    topic: ClassVar[str] = "noted"
    number: int
    text: str = ""


@pytest.fixture
def topic(monkeypatch) -> str:
    name = new_topic("noted")
    monkeypatch.setattr(Noted, "topic", name)
    return name


def note(numbers, *, key="k", text="") -> None:
    with transaction.atomic(using="users"):
        publish_all([Outgoing(Noted(number=n, text=text), key) for n in numbers])


def numbers(messages, key=b"k") -> list[int]:
    import json

    return [json.loads(m.value())["number"] for m in messages if m.key() == key]


def all_sent() -> bool:
    return not OutboxEvent.objects.filter(sent_at=None).exists()


def test_sends_what_was_published_before_and_after_it_started(topic):
    note(range(5))
    with running(Relay):
        messages = read(topic, 5)
        note(range(5, 8))
        messages = read(topic, 8)
        eventually(all_sent)
    assert numbers(messages) == list(range(8))
    row = OutboxEvent.objects.get(position=OutboxEvent.objects.earliest("position").position)
    assert headers(messages[0]) == dict(row.headers)


def test_a_commit_is_sent_immediately(topic, settings):
    settings.OUTBOX_POLL_SECONDS = 60
    with running(Relay) as relay:
        eventually(lambda: relay.loop and relay.loop._active)
        note([1])
        assert numbers(read(topic, 1, within=30)) == [1]


def test_a_row_marked_unsent_is_resent_though_below_the_floor(topic, settings):
    settings.OUTBOX_POLL_SECONDS = 60
    note(range(3))
    first, *_, last = OutboxEvent.objects.order_by("position").values_list("position", flat=True)
    with running(Relay) as relay:
        eventually(lambda: relay.loop and relay.loop.floor == last)
        with connections["users"].cursor() as cursor:
            cursor.execute("UPDATE outbox SET sent_at = NULL WHERE position = %s", [first])
        assert numbers(read(topic, 4)) == [0, 1, 2, 0]
        eventually(all_sent)
        eventually(lambda: relay.loop.floor == last)


def test_two_relays_one_key_a_thousand_events_in_order(topic, settings):
    settings.OUTBOX_BATCH_SIZE = 20
    with running(Relay), running(Relay):
        for start in range(0, 1000, 50):
            note(range(start, start + 50))
        messages = read(topic, 1000)
        eventually(all_sent)
    assert numbers(messages) == list(range(1000))


def test_a_standby_takes_over_when_the_session_of_the_first_ends(topic):
    with running(Relay) as first:
        eventually(lambda: first.loop and first.loop._active)
        with running(Relay) as second:
            eventually(second.heartbeat.joined.is_set)
            assert not second.loop._active
            with connections["users"].cursor() as cursor:
                cursor.execute(
                    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                    [LOCK],
                )
                [(pid,)] = cursor.fetchall()
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            note(range(10))
            assert numbers(read(topic, 10)) == list(range(10))
            eventually(all_sent)
            assert [first.loop._active, second.loop._active].count(True) == 1


def test_acknowledged_rows_are_not_resent_if_marking_them_failed(topic):
    note(range(5))
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE outbox%'"
    other = connections["users"].copy()
    other.set_autocommit(False)
    with closing(other), other.cursor() as cursor:
        cursor.execute("LOCK TABLE outbox IN EXCLUSIVE MODE")  # it can be read, and no row can be marked
        with running(Relay) as relay:
            read(topic, 5)
            eventually(lambda: cursor.execute(waiting) or cursor.fetchone())
            cursor.execute(waiting)
            cursor.execute("SELECT pg_terminate_backend(%s)", cursor.fetchone())
            eventually(lambda: not relay.loop._database.up)
            other.rollback()
            eventually(all_sent)
            note([5])
            messages = read(topic, 6)
    assert numbers(messages) == list(range(6))


def test_rows_that_commit_late_are_not_skipped(topic):
    """A transaction that inserted early may commit late: its rows have lower positions than rows already sent."""
    import threading

    inserted, go_on = threading.Event(), threading.Event()

    def late() -> None:
        try:
            with transaction.atomic(using="users"):
                publish_all([Outgoing(Noted(number=1), "late")])
                inserted.set()
                go_on.wait(30)
        finally:
            connections.close_all()

    thread = threading.Thread(target=late)
    thread.start()
    assert inserted.wait(30)
    with running(Relay):
        note([2], key="early")
        eventually(lambda: OutboxEvent.objects.filter(sent_at__isnull=False).count() == 1)
        go_on.set()
        thread.join()
        messages = read(topic, 2)
        eventually(all_sent)
    assert {m.key() for m in messages} == {b"early", b"late"}


class TestTooLarge:
    """A row that the broker can never accept is parked; a setting decides whether later rows of its key wait."""

    @pytest.fixture(autouse=True)
    def small(self, settings):
        settings.KAFKA_MAX_MESSAGE_BYTES = 20_000

    def test_is_parked_with_its_reason_while_its_key_waits(self, topic):
        note([1])
        note([2], text="x" * 30_000)
        note([3])
        note([4], key="other")
        with running(Relay):
            messages = read(topic, 2)
            parked = eventually(lambda: OutboxEvent.objects.filter(parked_at__isnull=False).first())
            note([5])
            note([6], key="other")
            messages = read(topic, 3)
        assert "KAFKA_MAX_MESSAGE_BYTES" in parked.parked_reason
        assert (numbers(messages), numbers(messages, b"other")) == ([1], [4, 6])
        assert OutboxEvent.objects.filter(sent_at=None, parked_at=None, key="k").count() == 2

    def test_its_key_may_proceed(self, topic, settings):
        settings.OUTBOX_PARKED_KEY = "pass"
        note([1], text="x" * 30_000)
        note([2])
        with running(Relay):
            assert numbers(read(topic, 1)) == [2]
            eventually(lambda: OutboxEvent.objects.filter(parked_at__isnull=False).count() == 1)


def test_a_missing_topic_is_waited_for_and_parks_nothing(topic, monkeypatch):
    missing = f"missing-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(Noted, "topic", missing)
    note(range(3))
    with running(Relay) as relay:
        eventually(lambda: relay.loop and not relay.loop.broker_up, within=60)
        from tests.chassis.support.kafka_helpers import make_topic

        make_topic(missing)
        assert numbers(read(missing, 3, within=60)) == [0, 1, 2]
        eventually(all_sent)
    assert OutboxEvent.objects.filter(parked_at__isnull=False).count() == 0
