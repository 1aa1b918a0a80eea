"""Events while a topic is stopped key by key: an operator redrives, and retention deletes records."""

import uuid

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.acceptance.faults import faults
from tests.acceptance.ledger import check, settle, user_created, wire
from tests.acceptance.outages import unready
from tests.acceptance.test_redrive import check_redriven_once, letters_of
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

TOPIC = "user.created"
SOON = {"RETRY_ATTEMPTS": "3", "RETRY_BASE_SECONDS": "2", "RETRY_FACTOR": "1"}
"""An event is a dead letter after some seconds, in which a topic has long been stopped."""


def ids(count: int) -> tuple[str, list[str]]:
    """A pattern of SQL's LIKE, and users whose ids it fits."""
    prefix = uuid.uuid4().hex[:8]
    return f"{prefix}-%", [f"{prefix}-{number}" for number in range(count)]


def send(topics, users: list[str]) -> None:
    """Events about these users."""
    for user in users:
        topics.send_later(*wire(user_created(user)))
    topics.flush()


def test_a_redrive(system, topics):
    """What comes back waits like all others, and is handled once when the cause is gone."""
    (letters, dead), (others, stopped) = ids(5), ids(30)
    system.start("orders-consume", **SOON)
    with faults(system) as fault:
        fault.refuse(letters)
        good = ids(5)[1]
        send(topics, [user for pair in zip(dead, good, strict=True) for user in pair])
        eventually(lambda: len(letters_of(topics, dead)) == len(dead))
        fault.refuse(others)
        send(topics, stopped)
        eventually(lambda: unready(system, "orders-consume", "handlers"), what="the topic is stopped")
        keys = [word for user in dead for word in ("--key", user)]
        status, out = system.manage("orders", "deadletters", "redrive", *keys)
        assert (status, "5 dead letters redriven" in out) == (0, True)
        assert unready(system, "orders-consume", "handlers")
        fault.accept_all()
        eventually(system["orders-consume"].ready, what="it resumes")
    settle(system, topics)
    check(system, topics, [*stopped, *good])
    check(system, topics, dead, dead_lettered=True)
    check_redriven_once(topics, dead)


def test_retention(system, topics):
    """What it holds in memory is handled all the same; what it had not read is lost, counted exactly, and told once."""
    pattern, users = ids(200)
    held = {"CONSUMER_BATCH_SIZE": "5", "CONSUMER_HELD_EVENTS": "16", "CONSUMER_STOP_AFTER_KEYS": "5"}
    [consumer] = system.start("orders-consume", **held)
    with faults(system) as fault:
        fault.refuse(pattern)
        offsets = [topics.send(*wire(user_created(user)), partition=0)[1] for user in users]
        eventually(lambda: unready(system, "orders-consume", "handlers"), what="the topic is stopped")
        eventually(lambda: consumer.metric("events_consumer_paused_partitions") > 0, what="it reads no more")
        client = AdminClient({"bootstrap.servers": system.engines.kafka.bootstrap_servers})
        [done] = client.delete_records([TopicPartition(TOPIC, 0, offsets[150])]).values()
        assert done.result(30).low_watermark == offsets[150]
        fault.accept_all()
        eventually(lambda: consumer.readiness()[0] == 200, what="it resumes")
    settle(system, topics)
    orders = system.rows("orderdb", "SELECT user_id FROM orders WHERE user_id LIKE %s", pattern)
    handled = {user_id for (user_id,) in orders}
    assert handled >= set(users[150:]), "what it had not lost"
    lost = len(set(users) - handled)
    assert 0 < lost < 150, "what it had in memory was handled"
    assert consumer.metric("events_lost_total") == lost
    assert f"up to {lost} events of {TOPIC}/0" in consumer.readiness()[1]["parts"]["events"]["reason"]
    [again] = system.start("orders-consume")
    assert again.metric("events_lost_total") == 0
    check(system, topics, handled)
