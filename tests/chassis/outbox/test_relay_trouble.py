"""Rows that this system never writes, and topics that accept nothing: each waits or is parked alone."""

import json
import random
import uuid
from collections import Counter

import pytest
from confluent_kafka import KafkaError
from django.db import connections

from chassis.messaging.models import OutboxEvent
from chassis.outbox import parked
from chassis.outbox import rows as outbox_rows
from chassis.outbox.relay import Relay
from chassis.outbox.sending import Verdict, judge
from tests.chassis.support.kafka_helpers import limit_batches, make_topic, new_topic, read
from tests.chassis.support.loops import running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


def row(topic: str, value: bytes, *, key: str | None = "k", headers: object = (), raw_key: bytes | None = None) -> int:
    return OutboxEvent.objects.create(
        event_id=uuid.uuid4(), topic=topic, key=key, raw_key=raw_key, payload=value, headers=headers, request_id="r"
    ).position


def rows(topic: str, values: list[bytes], key: str = "k") -> None:
    OutboxEvent.objects.bulk_create(
        OutboxEvent(event_id=uuid.uuid4(), topic=topic, key=key, payload=value, headers=[], request_id="r")
        for value in values
    )


def unsent(topic: str) -> int:
    return OutboxEvent.objects.filter(topic=topic, sent_at=None, parked_at=None).count()


def reasons() -> dict[int, str]:
    return dict(parked.rows().values_list("position", "parked_reason"))


class TestOddRows:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"headers": [["h", 5]]}, "not a valid Kafka record"),
            ({"headers": {"h": "no list"}}, "not a valid Kafka record"),
            ({"headers": [["h"]]}, "not a valid Kafka record"),
            ({"headers": [[7, "x"]]}, "not a valid Kafka record"),
        ],
    )
    def test_are_parked_with_their_reason_and_the_rest_is_sent(self, change, reason):
        topic = new_topic("odd", partitions=1)
        row(topic, b"1", key="a")
        odd = row(topic, b"2", key="b", **change)
        row(topic, b"3", key="c")
        with running(Relay):
            assert [m.value() for m in read(topic, 2)] == [b"1", b"3"]
            eventually(lambda: list(reasons()) == [odd])
        assert reason in reasons()[odd]

    @pytest.mark.parametrize("moment", ["infinity", "-infinity", "0001-01-01 00:00 BC", "20000-01-01"])
    def test_a_timestamp_beyond_the_range_of_python_blocks_nothing(self, moment):
        topic = new_topic("odd", partitions=1)
        with connections["users"].cursor() as cursor:
            cursor.execute("UPDATE outbox SET created_at = %s WHERE position = %s", [moment, row(topic, b"1")])
        row(topic, b"2")
        with running(Relay):
            assert [m.value() for m in read(topic, 2)] == [b"1", b"2"]
            eventually(lambda: not unsent(topic))

    def test_a_row_that_exceeds_memory_is_not_fetched(self, monkeypatch):
        monkeypatch.setattr("chassis.kafka.sizes.UNPACKED", 0)
        topic = new_topic("huge", partitions=1)
        huge = row(topic, random.randbytes(3_000_000), key="a")
        row(topic, b"1", key="b")
        with connections["users"].cursor() as cursor:
            taken = outbox_rows.take(cursor, 0)
        assert [(one.payload is None, one.size > 3_000_000) for one in taken] == [(True, True), (False, False)]
        with running(Relay):
            assert [m.value() for m in read(topic, 1)] == [b"1"]
            eventually(lambda: "KAFKA_MAX_MESSAGE_BYTES" in reasons().get(huge, ""))


class TestKeys:
    """Any key that Kafka accepts can be parked, and blocks only its own rows."""

    KEYS = ("x" * 3_000, "größe" * 50_000, "".join(chr(0x4E00 + n % 5_000) for n in range(100_000)))

    @pytest.mark.parametrize("key", KEYS, ids=["3 kB", "300 kB", "300 kB that do not compress"])
    def test_long(self, key, settings):
        settings.KAFKA_MAX_MESSAGE_BYTES = 400_000
        topic = new_topic("keys", partitions=1)
        guilty = row(topic, b"x" * 400_000, key=key)
        row(topic, b"behind it", key=key)
        row(topic, b"another", key=key[:-1])
        with running(Relay) as relay:
            assert [m.value() for m in read(topic, 1)] == [b"another"]
            eventually(lambda: list(reasons()) == [guilty])
            assert relay.loop.database_up
        assert unsent(topic) == 1
        parked.discard([guilty], by="ada")
        with running(Relay):
            assert [m.value() for m in read(topic, 2)] == [b"another", b"behind it"]

    def test_of_bytes(self, settings):
        topic = new_topic("keys", partitions=1)
        raw = bytes(range(256)) * 400
        guilty = row(topic, b"x" * 1_000_000, key=raw.hex(), raw_key=raw)
        row(topic, b"1", key=raw[1:].hex(), raw_key=raw[1:])
        with running(Relay):
            [message] = read(topic, 1)
            eventually(lambda: list(reasons()) == [guilty])
        assert message.key() == raw[1:]

    def test_rows_after_a_parked_one_are_looked_up_by_index(self):
        with connections["users"].cursor() as cursor:
            cursor.execute(
                "INSERT INTO outbox (event_id, topic, key, payload, headers, request_id, sent_at, parked_at)"
                " SELECT gen_random_uuid(), 't', 'k' || n, 'x', '[]', 'r', CASE WHEN n % 10 < 8 THEN now() END,"
                " CASE WHEN n % 10 = 8 THEN now() END FROM generate_series(1, 50000) AS n"
            )
            cursor.execute("ANALYZE outbox")
            bounds = {"floor": 0, "rows": 1_000, "bytes": 8_000_000, "largest": 16_000_000}
            cursor.execute(f"EXPLAIN (FORMAT JSON) {outbox_rows.unsent(wait=True)}", bounds)
            [(plan,)] = cursor.fetchall()
        text = plan if isinstance(plan, str) else json.dumps(plan)
        assert '"outbox_parked_key"' in text
        assert '"Seq Scan"' not in text


class TestRefusedTogether:
    """The broker rejects a batch because of one record. Only that one is parked."""

    @pytest.mark.parametrize("policy", ["wait", "pass"])
    def test_only_the_rejected_row_is_parked_and_order_is_kept(self, policy, settings):
        settings.OUTBOX_PARKED_KEY = policy
        topic, other = new_topic("strict", partitions=1), new_topic("calm", partitions=1)
        limit_batches(topic, 20_000)
        guilty = []
        for n in range(300):
            large = n in (100, 101, 250)
            value = b"%d " % n + (random.randbytes(30_000) if large else b"")
            guilty += [row(topic, value, key="k" if n != 250 else "l")] if large else []
            row(topic, b"%d k" % n, key="k") if large else None
            if not large:
                row(topic, value, key="k")
                row(topic, value, key="m")
            row(other, b"%d" % n, key="k")
        with running(Relay) as relay:
            eventually(
                lambda: set(reasons()) == (set(guilty) if policy == "pass" else {guilty[0], guilty[2]}), within=60
            )
            eventually(lambda: unsent(other) == 0)
            if policy == "pass":
                eventually(lambda: unsent(topic) == 0)
            else:
                eventually(lambda: not OutboxEvent.objects.filter(topic=topic, key="m", sent_at=None).exists())
            assert relay.loop.active
        messages = read(topic, 100)
        by_key = {key: [int(m.value().split()[0]) for m in messages if m.key() == key] for key in (b"k", b"l", b"m")}
        assert by_key[b"m"] == [n for n in range(300) if n not in (100, 101, 250)]
        assert by_key[b"k"] == list(range(300 if policy == "pass" else 100))
        assert [int(m.value()) for m in read(other, 300)] == list(range(300))
        assert all("MSG_SIZE_TOO_LARGE" in reason for reason in reasons().values())


class TestTopicsThatCannotBeWritten:
    def test_a_missing_topic_alone_waits_whatever_precedes_the_others(self, settings):
        """1,200 rows at the head of the outbox, more than a batch."""
        missing, good = f"missing-{uuid.uuid4().hex[:8]}", new_topic("good", partitions=1)
        rows(missing, [b"%d" % n for n in range(1_200)])
        rows(good, [b"%d" % n for n in range(5)])
        with running(Relay) as relay:
            assert [int(m.value()) for m in read(good, 5, within=10)] == list(range(5))
            eventually(lambda: unsent(good) == 0)
            eventually(lambda: relay.heartbeat.waits_for("broker"))
            for n in range(5, 30):  # it goes on and on, at once
                rows(good, [b"%d" % n])
                read(good, n + 1, within=5)
            why = relay.heartbeat.why("broker")
            assert missing in why
            assert "manage.py topics" in why
            make_topic(missing, partitions=1)
            eventually(lambda: unsent(missing) == 0, within=15)
            eventually(lambda: not relay.heartbeat.waits_for("broker"))
            assert relay.loop.active
        assert [int(m.value()) for m in read(missing, 1_200)] == list(range(1_200))
        assert [int(m.value()) for m in read(good, 30)] == list(range(30))
        assert reasons() == {}

    def test_many_missing_topics(self):
        good = new_topic("good", partitions=1)
        for _ in range(100):
            rows(f"missing-{uuid.uuid4().hex[:8]}", [b"1"])
        with running(Relay):
            for n in range(20):
                rows(good, [b"%d" % n])
                read(good, n + 1, within=10)
        assert [int(m.value()) for m in read(good, 20)] == list(range(20))

    def test_an_invalid_name(self):
        good = new_topic("good", partitions=1)
        for name in ("", "a b", "x" * 300, ".", "größe", "__transaction_state"):
            rows(name, [b"1"])
        rows(good, [b"1"])
        with running(Relay):
            assert len(read(good, 1)) == 1
            eventually(lambda: len(reasons()) == 6)
            rows(good, [b"2"])
            assert len(read(good, 2)) == 2
        assert all("no topic can have this name" in reason for reason in reasons().values())


@pytest.mark.parametrize("alone", [True, False])
def test_every_error_of_the_client_has_a_verdict(alone):
    """And none means that a row is confirmed."""
    codes = [
        code
        for name in dir(KafkaError)
        if name.lstrip("_").isupper() and isinstance(code := getattr(KafkaError, name), int) and code
    ]
    found = Counter(judge(KafkaError(code), alone=alone) for code in codes)
    assert found[Verdict.CONFIRMED] == 0
    assert found[Verdict.TOPIC] > found[Verdict.NOT_SENT] > 0
    assert (found[Verdict.REFUSED] > 0, found[Verdict.REFUSED_IN_BATCH] > 0) == (alone, not alone)
