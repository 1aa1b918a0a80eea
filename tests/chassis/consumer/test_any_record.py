"""Whatever a record contains, both kinds of consumers continue: it is processed, or dead-lettered unchanged with a reason."""

import json
import os
import uuid
from typing import Any

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chassis.consumer.consumer import Consumer
from chassis.deadletters.store import StoredDeadLetter, Wanted, read, span
from chassis.deadletters.text import details, line
from chassis.events import Event, Outgoing, publish_all
from chassis.kafka import clients, topic_reader
from chassis.kafka.patience import Patience
from chassis.kafka.records import Record, from_message
from chassis.messaging.models import OutboxEvent
from chassis.outbox.headers import headers_from_json
from chassis.reconciliation import reconciliation
from embedded.raw_kafka import RawRecord, send_raw
from tests.chassis.support.kafka_helpers import committed, new_topic, servers
from tests.chassis.support.loops import running
from tests.waiting import eventually

# Records are many to an example, and an example is one consumer from its start to its end.
FEW = settings(max_examples=6, derandomize=True, phases=[Phase.explicit, Phase.generate],
               suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large])  # fmt: skip

KNOWN = [b"ce_id", b"ce_source", b"ce_dataschema", b"ce_time", b"ce_origintime", b"requestId", b"traceId", b"traceparent", b"tracestate",
         b"content-type", b"deadletter-redriven", b"deadletter-id", b"deadletter-at"]  # fmt: skip

texts = st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
odd = st.sampled_from([b"", b"\0", b"a\0b", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n\x1b[31m", b"x" * 10_000, b"-1", b"00-0-0-0",
                       b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-ff", b"2026-01-01T00:00:00", b"9" * 400, b"{}"])  # fmt: skip
blobs = st.one_of(texts, odd, st.binary(max_size=60))
names = st.one_of(st.sampled_from(KNOWN), st.sampled_from(KNOWN), blobs, st.just(b"n" * 10_000))
headers = st.lists(st.tuples(names, st.one_of(st.none(), blobs)), max_size=6)

json_scalars = st.one_of(
    st.integers(), st.floats(), st.text(max_size=10), st.none(), st.booleans(), st.just(10**400), st.just(-(2**70))
)
jsons = st.recursive(
    json_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["number", "__proto__", "__class__", "\0", ""]), inner, max_size=3),
    ),
    max_leaves=8,
)
deep = [
    b'{"number":' + b"[" * 100_000,
    b'{"number":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
]
written = [b'{"number": 1e999}', b'{"number": NaN}', b'{"number": -0.0}', b'{"number": 1, "number": "\\ud800"}', b'{"n\\u0000": 1}',
           b'{"number": ' + b"9" * 5_000 + b"}", b'{"number": 1, "more": "\\ud800"}', b"\xef\xbb\xbf{}", b"", b" ", b"null"]  # fmt: skip
values = st.one_of(
    st.none(),
    blobs,
    jsons.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(deep),
    st.sampled_from(written),
)
timestamps = st.sampled_from([0, 0, 1, 10**12, 253_402_300_800_000, 2**62])
raw_records = st.builds(RawRecord, st.one_of(st.none(), blobs), values, headers, timestamps, st.sampled_from([0, 1]))
known_worst = [
    RawRecord(b"k", b'{"number": 3}', [(b"caf\xe9-h", b"\xff\x00"), (b"ce_id", b"1")]),
    RawRecord(b"k\0", b'{"number": 3}', [(b"ce_id", b"1")]),
    RawRecord(b"k", b'{"number": 3}', [(b"ce_id", b"i\0d")]),
    RawRecord(os.urandom(4_000).hex().encode(), b'{"number": 3}', [(b"ce_id", os.urandom(4_000).hex().encode())]),
    *(RawRecord(b"k", value, [(b"ce_id", b"1")]) for value in deep + written),
]


@pytest.fixture(autouse=True)
def any_time(scene, settings) -> None:
    settings.RETRY_ATTEMPTS = 2
    client = AdminClient(servers())
    entry = ConfigEntry("message.timestamp.after.max.ms", str(2**63 - 1), incremental_operation=AlterConfigOpType.SET)
    [altered] = client.incremental_alter_configs(
        [ConfigResource(ResourceType.TOPIC, scene.topic, incremental_configs=[entry])]
    ).values()
    altered.result(20)


@pytest.fixture(autouse=True)
def nothing_stops(settings) -> None:
    """Here all may be poison, and none of it waits for a good event."""
    settings.CONSUMER_STOP_AFTER_KEYS = 0


def on_topic(topic: str) -> list[Record]:
    """What stands on a topic, as a plain client reads it."""
    client = KafkaConsumer(servers() | {"group.id": f"look-{uuid.uuid4()}", "enable.partition.eof": True})
    client.assign([TopicPartition(topic, number, 0) for number in (0, 1)])
    found: list[Record] = []
    ended = 0
    try:
        while ended < 2:
            for message in clients.available(client, 100, 0.2):
                if message.error() is None:
                    found.append(from_message(message))
                else:
                    ended += 1
    finally:
        client.close()
    return found


def same(letter: Record, record: Record) -> bool:
    """Whether a letter keeps a record's bytes."""
    kept = [(name, value) for name, value in letter.headers if not name.startswith("deadletter-")]
    sent = [(name, value) for name, value in record.headers if not name.startswith("deadletter-")]
    return (letter.key, letter.value) == (record.key, record.value) and (record.misnamed or kept == sent)


def check_each(scene: Any, handled: int, letters: list[Record], old: set[tuple[int, int]]) -> None:
    """Each record was handled, known as a repeat, or is one letter that keeps its bytes and says why."""
    records = {(r.partition, r.offset): r for r in on_topic(scene.topic)}
    places = [
        (int(one.header("deadletter-partition") or ""), int(one.header("deadletter-offset") or "")) for one in letters
    ]
    assert len(places) == len(set(places))
    for letter, place in zip(letters, places, strict=True):
        assert same(letter, records[place])
        assert letter.header("deadletter-reason") in {"unreadable", "handler"}
        assert letter.header("deadletter-error")
    misnamed = [place for place, record in records.items() if record.misnamed]
    assert set(misnamed) - old <= set(places)
    assert handled + len(letters) <= len(records)


def look(records: list[Record], topic: str) -> None:
    """What reads records elsewhere, for a person: nothing of it raises."""
    for record in records:
        reconciliation.place(record)
        reconciliation.describe_dead_letter(record)
        reconciliation.redrive(record)
        letter = StoredDeadLetter(record, topic)
        line(letter).encode()
        details(letter).encode()
        json.dumps(letter.summary()).encode()
        Wanted(since=reconciliation.EPOCH, keys=frozenset(["k"])).fits(letter)


@pytest.mark.django_db(databases=["users"], transaction=True)
class TestWithADatabase:
    """A service with a database, like orders."""

    @given(st.lists(raw_records, min_size=20, max_size=60))
    @FEW
    def test_resumes(self, scene, some):
        self.check(scene, some)

    def test_survives_known_bad_records(self, scene):
        self.check(scene, known_worst)

    def check(self, scene, some):
        OutboxEvent.objects.all().delete()
        scene.handled.clear()
        old = {(record.partition, record.offset) for record in on_topic(scene.topic)}
        send_raw(scene.topic, *some)
        with running(Consumer):
            eventually(lambda: committed(scene) == len(old) + len(some), within=60)
        new = OutboxEvent.objects.filter(topic=scene.dead_letter_topic)
        letters = [
            Record(scene.dead_letter_topic, 0, 0, bytes(row.raw_key) if row.raw_key is not None else row.key and row.key.encode(),
                   None if row.payload is None else bytes(row.payload),
                   headers_from_json(json.dumps(row.headers)), 0)
            for row in new
        ]  # fmt: skip
        letters = [self.with_empty_key(letter) for letter in letters]
        check_each(scene, len(scene.handled), letters, old)
        found = list(topic_reader.scan([scene.topic]))
        assert len(found) == len(old) + len(some)
        look(found, scene.topic)

    @staticmethod
    def with_empty_key(letter: Record) -> Record:
        letter.key = b"" if letter.key == "" else letter.key
        return letter


@pytest.mark.service("payments")
class TestWithoutADatabase:
    """A service without a database, like payments."""

    @given(st.lists(raw_records, min_size=20, max_size=60))
    @FEW
    def test_resumes(self, scene, some):
        self.check(scene, some)

    def test_survives_known_bad_records(self, scene):
        self.check(scene, known_worst)

    def check(self, scene, some):
        topic = new_topic("out")

        class Said(Event):
            number: int

        Said.topic = topic
        scene.react = lambda scene, received: publish_all(
            Outgoing(Said(number=one.event.number), one.key, one) for one in received
        )
        scene.handled.clear()
        old = {(record.partition, record.offset) for record in on_topic(scene.topic)}
        send_raw(scene.topic, *some)
        with running(Consumer):
            eventually(lambda: committed(scene) == len(old) + len(some), within=60)
        letters = list(read(span([scene.dead_letter_topic], Patience(20), settled=True, newest=None), Patience(20)))
        check_each(scene, len(scene.handled), letters, old)
        look(letters, scene.topic)
