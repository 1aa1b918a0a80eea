"""Events that are too large for their topic or their dead-letter topic: nothing is dropped, and no other key waits."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.test_poison import died_at
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

LIMIT = 1_000_000
"""KAFKA_MAX_MESSAGE_BYTES, by default."""


@contextmanager
def largest_record(system, topic: str, size: int) -> Iterator[None]:
    """Have Kafka take records up to this many bytes on a topic."""

    def alter(value: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(value), incremental_operation=AlterConfigOpType.SET)
        client = AdminClient({"bootstrap.servers": system.engines.kafka.bootstrap_servers})
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        [done] = client.incremental_alter_configs([resource]).values()
        done.result(60)

    alter(size)
    try:
        yield
    finally:
        alter(LIMIT + (131_072 if topic.endswith(".dlq") else 65_536))


def test_a_record_that_another_producer_made_too_large(system, topics):
    users, key = new_ids(10), str(uuid.uuid4()).encode()
    _, _, value, headers = wire(user_created(key.decode()))
    value = value.replace(b"Ada", b"A" * 1_064_500)
    placed = []
    with largest_record(system, "user.created", LIMIT + 65_536):
        foreign = Producer(
            {"bootstrap.servers": system.engines.kafka.bootstrap_servers, "message.max.bytes": 2 * LIMIT, "acks": "all"}
        )
        foreign.produce(
            "user.created",
            value,
            key,
            0,
            lambda error, m: placed.append((error, m.partition(), m.offset())),
            headers=headers,
        )
        assert foreign.flush(20) == 0
    [(error, partition, offset)] = placed
    assert error is None
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    settle(system, topics)

    check(system, topics, users)
    why = died_at(topics, "user.created.orders.dlq", partition, offset)
    assert (why["reason"], why["attempts"]) == ("unreadable", "1")


def test_an_oversized_event_is_parked_and_only_its_key_waits(system, topics):
    users, key = new_ids(10), str(uuid.uuid4())
    insert = (
        "INSERT INTO outbox (event_id, topic, key, payload, headers, request_id)"
        " VALUES (gen_random_uuid(), 'user.created', %s, %s, '[]', 'r')"
    )
    with system.database("userdb") as database:
        database.execute(insert, [key, b"x" * (LIMIT + 1)])
        database.execute(insert, [key, b"behind it"])
    for user_id in users:
        envelope = user_created(user_id)
        topics.send_later(*wire(envelope))
    answer = system.client.post("/api/users", json={"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
    users.append(answer.json()["id"])
    unsent = "SELECT parked_reason FROM outbox WHERE key = %s AND sent_at IS NULL ORDER BY position"
    [(reason,), (waits,)] = eventually(lambda: rows if (rows := system.rows("userdb", unsent, key))[0][0] else None)
    assert "KAFKA_MAX_MESSAGE_BYTES" in reason
    assert waits is None
    assert len(system["users-relay"].logged("outbox row parked", key=key)) == 1
    assert system.manage("users", "parked", "discard", "--key", key)[0] == 0
    eventually(
        lambda: topics.dead_letters("user.created", "orders", key.encode()), what="what waited behind it was sent"
    )
    system.rows("userdb", "DELETE FROM outbox WHERE key = %s RETURNING 1", key)
    settle(system, topics)
    check(system, topics, users)


def test_payments_waits_for_a_dead_letter_topic_that_rejects_and_resumes_by_itself(system, topics):
    users = new_ids(10)
    with largest_record(system, "order.created.payments.dlq", 200):
        keys = [str(uuid.uuid4()).encode() for _ in range(2)]
        poison = [
            topics.send("order.created", key, b"\xff", [("ce_id", key)], partition=partition)
            for partition, key in enumerate(keys)
        ]
        for user_id in users:
            topics.send_later(*wire(user_created(user_id)))
        paid = "SELECT count(*) FROM orders WHERE user_id = ANY(%s) AND status <> 'pending'"
        eventually(lambda: system.rows("orderdb", paid, users) == [(10,)], what="the other keys go on")
        worker = system["payments-consume"]
        _, body = eventually(lambda: found if (found := worker.readiness())[0] == 503 else None)
        wanted = "a dead letter cannot be written to order.created.payments.dlq: MSG_SIZE_TOO_LARGE"
        assert body["parts"]["broker"]["reason"].startswith(wanted)
        eventually(lambda: worker.metric("events_dependency_waits_total") >= 5, what="it tries again and again")
        done = topics.committed("payments", "order.created")
        assert [done[("order.created", partition)] <= offset for partition, offset in poison] == [True, True]
    eventually(worker.ready, what="it goes on by itself")
    eventually(lambda: all(topics.dead_letters("order.created", "payments", key) for key in keys))
    settle(system, topics)
    check(system, topics, users)
    assert {died_at(topics, "order.created.payments.dlq", *place)["reason"] for place in poison} == {"unreadable"}
    assert len(worker.logged("waiting for the dead-letter topic")) == 1


def test_orders_parks_a_dead_letter_that_its_topic_rejects(system, topics):
    """It is safe in the outbox; what only a person can change, a person has to say that he did."""
    users = new_ids(10)
    with largest_record(system, "user.created.orders.dlq", 200):
        partition, offset = topics.send("user.created", f"{uuid.uuid4()}".encode(), b"\xff", [("ce_id", b"1")])
        for user_id in users:
            topics.send_later(*wire(user_created(user_id)))
        parked = "SELECT position FROM outbox WHERE topic = 'user.created.orders.dlq' AND parked_at IS NOT NULL"
        [(position,)] = eventually(lambda: system.rows("orderdb", parked))
        paid = "SELECT count(*) FROM orders WHERE user_id = ANY(%s) AND status <> 'pending'"
        eventually(lambda: system.rows("orderdb", paid, users) == [(10,)], what="the other keys go on")
    assert system.manage("orders", "parked", "retry", str(position))[0] == 0
    settle(system, topics)
    check(system, topics, users)
    assert died_at(topics, "user.created.orders.dlq", partition, offset)["reason"] == "unreadable"
