"""Poison among valid events: valid ones are processed, and each poison event becomes a complete dead letter without delaying others."""

import uuid

import pytest

from embedded.raw_kafka import RawRecord, send_raw
from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.topics import Headers, SeenRecord
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

PREFIX = "deadletter-"
SECRET = "secret@example.org"

Sent = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers, as they were produced."""


def good() -> Sent:
    return wire(user_created(f"poison-{uuid.uuid4()}"))[1:]


def with_header(headers: Headers, name: str, value: bytes | None) -> Headers:
    return [*((known, old) for known, old in headers if known != name), (name, value)]


def poisons() -> dict[str, Sent]:
    """What nobody could handle, by what is wrong with it."""
    key, value, headers = good()
    return {
        "undecodable bytes": (
            key,
            b"\xff\xfe\x00{",
            [*headers, ("odd", b"\xff\x00"), ("none", None), ("odd", b"again")],
        ),
        "cut off": (key, value[:-9], headers),
        "not an object": (key, b"[]", headers),
        "invalid payload": (key, b'{"userId": 7, "email": "%s"}' % SECRET.encode(), headers),
        "null value": (key, None, headers),
        "null key": (None, value, headers),
        "a key that is no text": (b"\xff\x00\xfe", value, headers),
        "a key with a null byte": (b"a\x00b", b"", headers),
        "unknown version": (key, value, with_header(headers, "ce_dataschema", b"urn:events:user.created:v9")),
        "no ce_id": (key, value, [header for header in headers if header[0] != "ce_id"]),
        "no headers at all": (key, value, []),
    }


def explained(letter: SeenRecord) -> dict[str, str]:
    """What a dead letter says beside what the record was."""
    return {
        name.removeprefix(PREFIX): (value or b"").decode() for name, value in letter.headers if name.startswith(PREFIX)
    }


def died_at(topics, dead_letters: str, partition: int, offset: int) -> dict[str, str]:
    """What the one dead letter of a record says; the record stands in it as it was sent."""
    # Beside the letters stands what somebody decided about one; that says nothing of a record's place.
    said = [(letter, why) for letter in topics.of(dead_letters) if "partition" in (why := explained(letter))]
    [(letter, why)] = [one for one in said if (one[1]["partition"], one[1]["offset"]) == (str(partition), str(offset))]
    [sent] = [record for record in topics.of(why["topic"]) if (record.partition, record.offset) == (partition, offset)]
    assert (letter.key, letter.value) == (sent.key, sent.value)
    assert tuple(header for header in letter.headers if not header[0].startswith(PREFIX)) == sent.headers
    assert why["at"].endswith("Z")
    assert why["error"]
    return why


def test_poison_among_valid_users(system, topics):
    """All on one partition, so that any poison that stopped the consumer would stop the good ones behind it."""
    users, sent = new_ids(2 * len(poisons())), {}
    behind = iter(users)
    for name, poison in poisons().items():
        topics.send(*wire(user_created(next(behind))), partition=0)
        sent[name] = (poison, topics.send("user.created", *poison, partition=0))
        topics.send(*wire(user_created(next(behind))), partition=0)
    settle(system, topics)

    check(system, topics, users)
    for name, ((key, value, headers), (partition, offset)) in sent.items():
        why = died_at(topics, "user.created.orders.dlq", partition, offset)
        assert (why["reason"], why["attempts"], why["group"]) == ("unreadable", "1", "orders"), name
        assert SECRET not in why["error"] + why["traceback"]
        [record] = [r for r in topics.of("user.created") if (r.partition, r.offset) == (partition, offset)]
        assert (record.key, record.value, list(record.headers)) == (key, value, headers), name
    eventually(system["orders-consume"].ready)
    assert SECRET not in system["orders-consume"].child.log.read_text()


def test_poison_among_valid_orders(system, topics):
    """The same where there is no database: dead letters, offsets and payments are one Kafka transaction."""
    users = new_ids(12)
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    sent = [topics.send("order.created", *poison, partition=0) for poison in poisons().values()]
    settle(system, topics)

    check(system, topics, users)
    for partition, offset in sent:
        why = died_at(topics, "order.created.payments.dlq", partition, offset)
        assert (why["reason"], why["attempts"], why["group"]) == ("unreadable", "1", "payments")
    eventually(system["payments-consume"].ready)


def test_a_header_name_that_is_not_utf8_is_dead_lettered_and_readable_after_redrive(system, topics):
    """As Go, C and Rust clients can write it; in both kinds of consumers, many on one partition, between good ones."""
    users, name = new_ids(20), "caf\\xe9-h"
    misnamed = [f"misnamed-{uuid.uuid4()}" for _ in range(12)]
    servers = system.engines.kafka.bootstrap_servers
    for good_one, bad in zip(users, misnamed, strict=False):
        topics.send(*wire(user_created(good_one)), partition=0)
        topic, key, value, headers = wire(user_created(bad))
        raw = [*((known.encode(), content) for known, content in headers), (b"caf\xe9-h", b"\x00\xff")]
        send_raw(topic, RawRecord(key, value, raw), servers=servers)
    for user_id in users[12:]:
        topics.send_later(*wire(user_created(user_id)))
    order = str(uuid.uuid4()).encode()
    send_raw("order.created", RawRecord(order, b"{}", [(b"\xff", None), (b"ce_id", b"1")]), servers=servers)
    settle(system, topics)

    check(system, topics, users)
    [paid] = topics.dead_letters("order.created", "payments", order)
    assert (paid.headers[:2], explained(paid)["reason"]) == ((("\\xff", None), ("ce_id", b"1")), "unreadable")
    for user_id in misnamed:
        [letter] = topics.dead_letters("user.created", "orders", user_id.encode())
        assert dict(letter.headers)[name] == b"\x00\xff"
        assert "not UTF-8" in explained(letter)["error"]
        assert letter.payload["userId"] == user_id
    listed = system.manage("orders", "deadletters", "list", "--key", misnamed[0])
    assert (listed[0], "not UTF-8" in listed[1]) == (0, True)
    keys = [word for user_id in misnamed for word in ("--key", user_id)]
    assert system.manage("orders", "deadletters", "redrive", *keys)[0] == 0
    settle(system, topics)
    check(system, topics, misnamed, dead_lettered=True)
    assert system.manage("orders", "reconcile", "--older-than", "0s")[0] in {0, 1}
    assert system["orders-consume"].ready()


def test_an_event_that_always_fails_is_retried_and_blocks_only_its_key(system, topics):
    system.start("orders-consume", RETRY_ATTEMPTS="4", RETRY_BASE_SECONDS="1.5", RETRY_FACTOR="1")
    unknown, users = str(uuid.uuid4()), new_ids(20)
    value = b'{"paymentId": "%s", "orderId": "%s", "status": "completed"}' % (
        str(uuid.uuid4()).encode(),
        unknown.encode(),
    )
    partition, offset = topics.send("payment.completed", unknown.encode(), value, [("ce_id", unknown.encode())])
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    settled = "SELECT count(*) FROM orders WHERE user_id = ANY(%s) AND status <> 'pending'"
    eventually(lambda: system.rows("orderdb", settled, users) == [(20,)], what="the other keys go on")
    went_on_meanwhile = not topics.dead_letters("payment.completed", "orders", unknown.encode())
    settle(system, topics)

    assert went_on_meanwhile
    check(system, topics, users)
    why = died_at(topics, "payment.completed.orders.dlq", partition, offset)
    assert (why["reason"], why["attempts"]) == ("handler", "4")
    assert "UnknownOrder" in why["error"]
