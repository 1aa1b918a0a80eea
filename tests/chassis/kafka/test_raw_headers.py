"""Headers whose names are not UTF-8, on a real broker, compared with librdkafka itself."""

import pytest
from confluent_kafka import Consumer, TopicPartition

from chassis.events.envelope import Unreadable, unseal
from chassis.events.event import Event
from chassis.kafka import raw_headers
from chassis.kafka.records import Record, from_message
from chassis.runtime.failures import DependencyDown
from embedded.raw_kafka import RawRecord, send_raw
from tests.chassis.support.kafka_helpers import delete_before, new_topic, servers
from tests.waiting import eventually

HEADERS = [(b"caf\xe9-h", b"\x00\xff"), (b"ce_id", b"1"), (b"none", None), (b"empty", b""), (b"caf\xe9-h", b"again")]
TEXT = [(r"caf\xe9-h", b"\x00\xff"), ("ce_id", b"1"), ("none", None), ("empty", b""), (r"caf\xe9-h", b"again")]


def received(topic: str, number: int) -> list[Record]:
    client = Consumer(servers() | {"group.id": "raw", "enable.auto.commit": False})
    client.assign([TopicPartition(topic, 0, 0)])
    found: list[Record] = []
    try:
        eventually(lambda: (found.extend(map(from_message, client.consume(100, 0.2))), len(found) >= number)[1])
    finally:
        client.close()
    return found


def test_names_become_text_and_values_stay_bytes():
    topic = new_topic("raw", partitions=1)
    send_raw(topic, RawRecord(), RawRecord(b"k", b"v", HEADERS), RawRecord(headers=[(b"sound", b"1")]))
    records = received(topic, 3)

    assert [record.misnamed for record in records] == [False, True, False]
    one = records[1]
    assert (one.key, one.value, one.headers, one.headers_read) == (b"k", b"v", [], False)
    raw_headers.complete(records)
    assert one.headers == TEXT
    assert one.header("ce_id") == "1"
    assert one.size == 2 + sum(len(name) + len(value or b"") for name, value in TEXT)
    with pytest.raises(Unreadable, match=r"the name of a header is not UTF-8$"):
        unseal(one, Event)


def test_many_are_read_at_once():
    topic = new_topic("raw", partitions=1)
    send_raw(topic, *(RawRecord(headers=[(b"\xff", b"%d" % n)] if n % 3 else []) for n in range(3_000)))
    records = received(topic, 3_000)
    raw_headers.complete(records)
    assert all(record.headers == ([(r"\xff", b"%d" % n)] if n % 3 else []) for n, record in enumerate(records))


def test_a_dead_letter_whose_record_expired_is_reported():
    topic = new_topic("raw", partitions=1)
    send_raw(topic, RawRecord(headers=HEADERS), RawRecord(), RawRecord())
    one = received(topic, 3)[0]
    delete_before(topic, 0, 2)
    raw_headers.complete([one])
    assert one.headers == []
    with pytest.raises(Unreadable, match="its headers are lost"):
        unseal(one, Event)


def test_an_unavailable_broker_is_waited_for(settings, monkeypatch):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    monkeypatch.setattr(raw_headers, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(DependencyDown):
        raw_headers.complete([Record("t", 0, 0, None, None, [], 0, misnamed=True, headers_read=False)])
