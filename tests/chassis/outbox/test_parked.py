"""Parked outbox rows are retried or discarded by an operator, and then treated normally by the relay."""

import uuid
from io import StringIO
from typing import ClassVar

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from structlog.testing import capture_logs

from chassis.events import Event, Outgoing, publish_all
from chassis.messaging.models import OutboxEvent
from chassis.outbox import parked, retention
from chassis.outbox.relay import Relay
from tests.chassis.support.kafka_helpers import new_topic, read
from tests.chassis.support.loops import running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


PARKED_AT = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id, created_at, parked_at, parked_reason)
VALUES (%s, 't', 'k', '', '[]', 'r', %s, %s, 'no reason')
"""


class Noted(Event):
    """Something was noted."""

    topic: ClassVar[str] = "noted"
    number: int
    text: str = ""


@pytest.fixture
def topic(monkeypatch, settings) -> str:
    settings.KAFKA_MAX_MESSAGE_BYTES = 20_000
    name = new_topic("noted")
    monkeypatch.setattr(Noted, "topic", name)
    return name


def note(number: int, *, key: str = "k", text: str = "") -> None:
    with transaction.atomic(using="users"):
        publish_all([Outgoing(Noted(number=number, text=text), key)])


@pytest.fixture
def row(topic) -> OutboxEvent:
    """1 was sent, 2 is parked, 3 waits behind it."""
    note(1)
    note(2, text="x" * 30_000)
    note(3)
    with running(Relay):
        eventually(lambda: parked.rows().exists() and OutboxEvent.objects.filter(sent_at__isnull=False).exists())
    return parked.rows().get()


def numbers(messages) -> list[int]:
    import json

    return [json.loads(message.value())["number"] for message in messages]


def test_retried_after_the_limit_was_raised_its_key_resumes_in_order(topic, row, settings):
    settings.KAFKA_MAX_MESSAGE_BYTES = 1_000_000
    settings.OUTBOX_POLL_SECONDS = 60
    with running(Relay) as relay:
        eventually(lambda: relay.loop and relay.loop._active)
        with capture_logs() as logs:
            assert parked.retry([row.position], by="ada") == [row.position]
        assert numbers(read(topic, 3)) == [1, 2, 3]
        eventually(lambda: not OutboxEvent.objects.filter(sent_at=None).exists())
    [line] = [one for one in logs if one.get("position")]
    assert (line["event"], line["by"], line["position"]) == ("parked outbox row retried", "ada", row.position)


def test_retried_too_early_it_is_parked_again(topic, row):
    with running(Relay):
        parked.retry([row.position], by="ada")
        eventually(lambda: parked.rows().filter(parked_at__gt=row.parked_at).exists())
    assert parked.rows().get().parked_reason == row.parked_reason
    assert numbers(read(topic, 1)) == [1]


def test_a_discarded_row_is_never_sent_and_its_key_resumes(topic, row):
    with capture_logs() as logs:
        assert parked.discard([row.position], by="ada") == [row.position]
    with running(Relay):
        assert numbers(read(topic, 2)) == [1, 3]
        eventually(lambda: not OutboxEvent.objects.filter(sent_at=None, parked_at=None).exists())
    row.refresh_from_db()
    assert (row.sent_at, row.discarded_by) == (None, "ada")
    assert row.discarded_at > row.parked_at
    assert row.parked_reason
    assert [(line["event"], line["by"]) for line in logs] == [("parked outbox row discarded", "ada")]


def test_only_parked_rows_can_be_decided_and_once(topic, row):
    others = OutboxEvent.objects.exclude(position=row.position).values_list("position", flat=True)
    assert parked.discard([*others, 10**9], by="ada") == []
    assert parked.discard([row.position], by="ada") == [row.position]
    assert parked.discard([row.position], by="bob") == []
    assert parked.retry([row.position], by="bob") == []
    row.refresh_from_db()
    assert row.discarded_by == "ada"


def test_discarded_rows_are_purged_and_parked_ones_never(topic, row, settings):
    def age() -> None:
        with connections["users"].cursor() as cursor:
            cursor.execute(
                "UPDATE outbox SET created_at = created_at - interval '99 days', sent_at = sent_at - interval '99 days',"
                " parked_at = parked_at - interval '99 days', discarded_at = discarded_at - interval '99 days'"
            )

    outbox = retention.expiries()[0]
    age()
    assert retention.purge(outbox) == 1  # the one that was sent
    parked.discard([row.position], by="ada")
    assert retention.purge(outbox) == 0
    age()
    assert retention.purge(outbox) == 1
    assert [one.sent_at for one in OutboxEvent.objects.all()] == [None]
    assert not OutboxEvent.objects.filter(position=row.position).exists()


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("parked", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


class TestCommand:
    """`manage.py parked`."""

    def test_lists_them_with_their_reason(self, topic, row):
        [line] = command("list").splitlines()
        for part in (str(row.position), topic, "key=k", str(row.event_id), "KAFKA_MAX_MESSAGE_BYTES"):
            assert part in line
        assert command("list", "--key", "other") == ""

    @pytest.mark.parametrize("moment", ["infinity", "-infinity", "4713-01-01 BC", "294276-12-31"])
    def test_lists_retries_and_discards_rows_with_any_timestamp(self, moment):
        rows = [uuid.uuid4(), uuid.uuid4()]
        with connections["users"].cursor() as cursor:
            cursor.executemany(PARKED_AT, [[row, moment, moment] for row in rows])
        lines = command("list").splitlines()
        assert [str(row) in line for row, line in zip(rows, lines, strict=True)] == [True, True]
        assert all(("1000-01-01" if moment[0] in "-4" else "9999-12-30") in line for line in lines)
        positions = [line.split()[0] for line in lines]
        assert command("retry", positions[0]).startswith("1 ")
        assert command("discard", positions[1]).startswith("1 ")
        assert {row.created_at.year for row in OutboxEvent.objects.all()} <= {1000, 9999}
        OutboxEvent.objects.all().delete()

    def test_retries(self, topic, row):
        assert command("retry", str(row.position), "--by", "ada") == "1 parked rows retried\n"
        assert not parked.rows().exists()

    def test_discards_by_key_and_topic(self, topic, row):
        assert command("discard", "--key", "other") == "0 parked rows discarded\n"
        assert command("discard", "--key", "k", "--topic", topic, "--by", "ada") == "1 parked rows discarded\n"
        assert OutboxEvent.objects.get(position=row.position).discarded_by == "ada"

    @pytest.mark.parametrize("action", ["retry", "discard"])
    def test_all_records_require_all(self, row, action):
        with pytest.raises(CommandError, match="--all"):
            command(action)
        assert parked.rows().count() == 1
        assert command(action, "--all").startswith("1 ")

    def test_a_row_that_is_not_parked_is_an_error(self, row):
        with pytest.raises(CommandError, match="999999"):
            command("discard", str(row.position), "999999")
        assert not parked.rows().exists()

    @pytest.mark.service("payments")
    def test_without_a_database_there_are_none(self):
        with pytest.raises(CommandError, match="no outbox"):
            command("list")
