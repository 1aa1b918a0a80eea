"""Writes dead letters like a consumer, and finds out what happened to them."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from chassis.deadletters.record import FailedRecord
from chassis.events.envelope import Unreadable
from chassis.kafka import clients
from chassis.kafka.records import Record
from tests.chassis.support.kafka_helpers import headers, producer, servers

ROOT = Path(__file__).resolve().parents[3]


def failed(
    topic: str, number: int, *, key: bytes | None = b"k", value: bytes | None = b"{}", error: Exception | None = None
) -> FailedRecord:
    kept = [
        ("ce_id", f"event-{number}".encode()),
        ("requestId", f"req-{number}".encode()),
        ("odd", b"\xff\x00"),
        ("none", None),
    ]
    record = Record(topic, 0, number, key, value, kept, 1_000 + number)
    return FailedRecord(record, error or ValueError(f"number {number}"), 3)


def unreadable(topic: str, number: int, **more) -> FailedRecord:
    return failed(topic, number, value=b"\xff junk", error=Unreadable("it is junk"), **more)


def write(dead: str, *failed_records: FailedRecord, at: str | None = None) -> list[str]:
    """Write them to the dead-letter topic. Returns their ids."""
    client = producer()
    for one in failed_records:
        fields = [(name, at.encode() if at and name == "deadletter-at" else value) for name, value in one.headers()]
        client.produce(dead, one.record.value, one.record.key, headers=fields)
    assert client.flush(30) == 0
    return [one.id for one in failed_records]


def everything(topic: str) -> list[Message]:
    """All committed records of a topic, up to its current end."""
    options = {
        "group.id": "everything",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }
    client, found = Consumer({**servers(), **options}), []
    try:
        places = [
            TopicPartition(topic, number, 0)
            for number in client.list_topics(topic, timeout=60).topics[topic].partitions
        ]
        ends = {place.partition: client.get_watermark_offsets(place, timeout=60)[1] for place in places}
        client.assign(places)
        while ends:
            for message in clients.available(client, 100, 0.1):
                error = message.error()
                assert error is None or error.code() == KafkaError._PARTITION_EOF, error
                found += [] if error else [message]
                if error or message.offset() + 1 >= ends.get(message.partition(), 0):
                    ends.pop(message.partition(), None)
        return found
    finally:
        client.close()


def redriven(topic: str) -> Counter[str]:
    """How often each dead letter was redriven to the topic."""
    ids = [headers(message).get("deadletter-redriven") for message in everything(topic)]
    return Counter(one for one in ids if one)


def start(group: str, topic: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `manage.py deadletters` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chassis.support.redrive_program", group, topic, *arguments],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "settings.payments", "LOG_FORMAT": "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
