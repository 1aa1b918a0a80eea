"""All size limits: a record that its topic accepts can be dead-lettered unchanged, in both kinds of service."""

import contextlib
import os
import uuid
from itertools import chain
from typing import Any

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from chassis.consumer import consumer as consumer_module
from chassis.consumer import orphaned_transactions
from chassis.consumer.consumer import Consumer
from chassis.deadletters.record import PREFIX, FailedRecord, without_diagnostics
from chassis.events.envelope import Unreadable
from chassis.events.registry import Handler
from chassis.kafka import names, sizes
from chassis.kafka.records import Record
from chassis.messaging.models import OutboxEvent
from chassis.outbox.relay import Relay
from chassis.topology.topics import _topic
from tests.chassis.conftest import Counted
from tests.chassis.support.kafka_helpers import Reader, limit_batches, make_topic, servers
from tests.chassis.support.loops import running
from tests.waiting import eventually

LIMIT = 20_000
"""KAFKA_MAX_MESSAGE_BYTES of these tests: small, so that many sizes can be tried; the arithmetic is the same."""

SOURCE = LIMIT + sizes.HEADROOM
FRAMING = 75
"""About what a record alone costs beside its key, value and headers; the tests find the edge themselves."""

COARSE = range(-2_100, 101, 100)
FINE = range(-FRAMING - 8, -FRAMING + 12)
AROUND = sorted(
    {SOURCE + by for by in chain(COARSE, FINE)}
    | {LIMIT + by for by in range(-2_100, 2_101, 300)}
    | set(range(LIMIT - 3, LIMIT + 4))
)


def record_of(size: int, part: str) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """A record that nobody can read, with so many bytes in its value, its key or its headers, none of which compress."""
    noise = os.urandom(size)
    key, value, headers = b"k" + uuid.uuid4().bytes, b"\xff", [("n", str(size).encode())]
    rest = size - len(key) - len(value) - sum(len(name) + len(held) for name, held in headers)
    if part == "value":
        value += noise[:rest]
    elif part == "key":
        key += noise[:rest]
    else:
        headers.append(("h", noise[: rest - 1]))
    return key, value, headers


def send_what_fits(topic: str, records: list) -> list:
    """Send each alone, uncompressed, as a foreign producer without limits of its own. Returns those that the broker took."""
    taken = []

    def answered(record: Any) -> Any:
        return lambda error, _: None if error else taken.append(record)

    for record in records:
        producer = Producer(
            servers() | {"message.max.bytes": 10_000_000, "linger.ms": 0, "acks": "all", "log_level": 0}
        )
        key, value, headers = record
        producer.produce(topic, value, key, headers=headers, on_delivery=answered(record))
        assert producer.flush(20) == 0
    return taken


@pytest.fixture
def place(settings, monkeypatch) -> tuple[str, str]:
    """A topic and its dead-letter topic as `manage.py topics` makes them, and a service that reads it."""
    settings.KAFKA_MAX_MESSAGE_BYTES = LIMIT
    settings.KAFKA_TOPIC_PARTITIONS = 2
    settings.CONSUMER_STOP_AFTER_KEYS = 0  # here all is poison
    name = f"sized-{uuid.uuid4().hex[:8]}"
    group = settings.SERVICE_NAME = f"group-{uuid.uuid4().hex[:8]}"
    dead = names.dead_letter_topic(name, group)
    for topic, is_dead in ((name, False), (dead, True)):
        made = _topic(topic, 1, dead=is_dead)
        make_topic(topic, partitions=2, **made.config)
    model = type("Counted", (Counted,), {"topic": name, "__annotations__": {}})
    monkeypatch.setattr(consumer_module, "registered", lambda: {name: Handler(model, lambda received: None)})
    monkeypatch.setattr(orphaned_transactions, "published", list)
    return name, dead


def assert_dead_lettered(dead: str, sent: list) -> None:
    """Each record is there as it was: key, value, and its own headers in front of ours."""
    wanted = {(key, value, tuple(headers)) for key, value, headers in sent}
    reader = Reader(dead)

    def found() -> set:
        return {
            (m.key(), m.value(), tuple((n, v) for n, v in m.headers() or [] if not n.startswith(PREFIX)))
            for m in reader.read()
        }

    with contextlib.closing(reader):
        eventually(lambda: found() >= wanted, within=60, what="every record has its dead letter")
        assert found() == wanted
        reasons = {dict(m.headers() or [])[PREFIX + "reason"] for m in reader.messages}
    assert reasons == {b"unreadable"}


@pytest.mark.parametrize("part", ["value", "key", "headers"])
class TestWhatTheTopicTakesIsDeadLettered:
    @pytest.mark.django_db(databases=["orders"], transaction=True)
    @pytest.mark.service("orders")
    def test_by_the_outbox(self, place, part, settings):
        name, dead = place
        sent = send_what_fits(name, [record_of(size, part) for size in AROUND])
        assert {len(sent)} & set(range(len(AROUND) // 2, len(AROUND))), "the edge is within what is tried"
        with running(Consumer), running(Relay):
            assert_dead_lettered(dead, sent)
            eventually(lambda: not OutboxEvent.objects.filter(sent_at=None).exists())
        assert not OutboxEvent.objects.filter(parked_at__isnull=False).exists()

    @pytest.mark.service("payments")
    def test_by_a_kafka_transaction(self, place, part, settings):
        settings.SERVICE_DATABASE = None
        name, dead = place
        sent = send_what_fits(name, [record_of(size, part) for size in AROUND])
        with running(Consumer):
            assert_dead_lettered(dead, sent)


@pytest.fixture
def too_narrow(place, settings) -> tuple[str, str]:
    """A dead-letter topic of somebody else's making: it takes the record and the facts about it, and not much more."""
    name, dead = place
    limit_batches(dead, LIMIT + 2_000)
    return name, dead


class TestDiagnosticsGoBeforeBytes:
    """If a dead letter does not fit with its error and traceback, it is written without them."""

    @pytest.fixture(autouse=True)
    def _wordy(self, monkeypatch):
        words = "".join(chr(0x4E00 + n) for n in range(2_000))
        monkeypatch.setattr("chassis.events.envelope._explain", lambda error: words)

    @pytest.mark.django_db(databases=["orders"], transaction=True)
    @pytest.mark.service("orders")
    def test_by_the_outbox(self, too_narrow):
        name, dead = too_narrow
        sent = send_what_fits(name, [self._with_id()])
        with running(Consumer), running(Relay):
            assert_dead_lettered(dead, sent)

    @pytest.mark.service("payments")
    def test_by_a_kafka_transaction(self, too_narrow, settings):
        settings.SERVICE_DATABASE = None
        name, dead = too_narrow
        sent = send_what_fits(name, [self._with_id()])
        with running(Consumer):
            assert_dead_lettered(dead, sent)

    @staticmethod
    def _with_id() -> tuple:
        """One whose headers are read, so that its payload is what is wrong, at length."""
        key, value, headers = record_of(LIMIT - 2_000, "value")
        return key, value, [*headers, ("ce_id", b"1")]


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


@given(
    error=st.one_of(
        st.builds(ValueError, st.text(st.characters(), max_size=200)),
        st.just(ValueError("\ud800" * 50_000)),
        st.just(Unreadable("€" * 100_000)),
        st.just(Silent()),
    ),
    redriven=st.binary(max_size=100).map(lambda some: some * 100),
    topic=st.text("abc.-_", min_size=1, max_size=249),
)
def test_added_headers_are_limited_and_are_text(error, redriven, topic):
    """Whatever a handler raises, and whatever stands in headers that look like ours."""
    theirs = [("h", b"1"), (PREFIX + "redriven", redriven), (PREFIX + "error", b"x" * 9_000)]
    record = Record(topic, 0, 2**62, b"k", b"v", theirs, 2**62)
    try:
        raise error
    except Exception as raised:
        headers = FailedRecord(record, raised, 10**9).headers()
    ours = [(name, value or b"") for name, value in headers if name.startswith(PREFIX)]
    assert sum(len(name) + len(value) + 12 for name, value in ours) <= sizes.DIAGNOSTICS < sizes.HEADROOM
    for _, value in ours:
        value.decode()
    assert headers[0] == theirs[0]
    short = without_diagnostics(headers)
    assert sum(len(name) + len(value or b"") for name, value in short if name.startswith(PREFIX)) < 3_000


def test_the_arithmetic(settings):
    for settings.KAFKA_MAX_MESSAGE_BYTES in (1_000, 1_000_000, 100_000_000):
        assert sizes.largest_event() < sizes.event_topic() < sizes.dead_letter_topic() < sizes.largest_record()
        assert sizes.largest_batch() < sizes.event_topic()
        assert 2 * sizes.largest_record() <= 1024 * sizes.queued_kbytes()
