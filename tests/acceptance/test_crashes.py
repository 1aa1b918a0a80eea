"""An event whose handler crashes the process is found and dead-lettered, and all others are processed once."""

import uuid

import pytest

from chassis.consumer.crashes import TRIES
from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.test_poison import died_at
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

CALM = {"RETRY_ATTEMPTS": "100", "RETRY_CAP_SECONDS": "0.5"}


def supervise(system, name: str, ends: list[int], *, fault: str = "handlers-crash", **changes: str) -> None:
    """Start the worker again, as a supervisor does, if it has died."""
    if name not in system.members or not system[name].alive:
        if name in system.members:
            ends.append(system[name].child.popen.returncode)
        system.spawn(name, fault=fault, **changes)


def test_a_record_that_crashes_orders_is_dead_lettered_and_the_others_are_processed(system, topics):
    """Before and behind it on its partition, and on others; also where another event is being retried in front of it."""
    users, culprit, ends = new_ids(60), f"crashes-orders-{uuid.uuid4()}", []
    system.end(["orders-consume"])
    for user_id in users[:30]:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    partition, offset = topics.send(*wire(user_created(culprit)))
    for user_id in users[30:]:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    dead = "user.created.orders.dlq"

    def found() -> bool:
        supervise(system, "orders-consume", ends)
        return bool(topics.dead_letters("user.created", "orders", culprit.encode()))

    eventually(found, within=90, every=0.1, what="the culprit is dead-lettered")
    settle(system, topics, meanwhile=lambda: supervise(system, "orders-consume", ends))

    check(system, topics, users)
    why = died_at(topics, dead, partition, offset)
    assert (why["reason"], why["attempts"]) == ("crash", str(TRIES))
    assert len(topics.dead_letters("user.created", "orders", culprit.encode())) == 1
    assert set(ends) == {-6}
    assert len(ends) <= 2 + 2 * TRIES
    assert system["orders-consume"].alive


def test_a_handler_that_catches_its_timeout_ends_with_its_process(system, topics):
    """Nothing else ends it; what then happens is what happens after a crash."""
    users, culprit, ends = new_ids(20), f"catches-{uuid.uuid4()}", []
    system.end(["orders-consume"])
    for user_id in (*users[:10], culprit, *users[10:]):
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()

    def found() -> bool:
        supervise(
            system, "orders-consume", ends, fault="handlers-catch-everything", HANDLER_TIMEOUT_SECONDS="1",
            RETRY_ATTEMPTS="2",
        )  # fmt: skip
        return bool(topics.dead_letters("user.created", "orders", culprit.encode()))

    eventually(found, within=240, every=0.2, what="the culprit is dead-lettered")
    system.start("orders-consume")
    settle(system, topics)

    check(system, topics, users)
    assert set(ends) == {1}


def test_a_record_that_crashes_payments_is_dead_lettered_and_the_others_are_paid_once(system, topics):
    """Where there is no database, and offsets are part of Kafka transactions."""
    users, culprit, ends = new_ids(40), f"crashes-payments-{uuid.uuid4()}", []
    system.end(["payments-consume"])
    for user_id in (*users[:20], culprit, *users[20:]):
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    eventually(lambda: topics.of("order.created", userId=culprit), what="its order is placed")
    [order] = topics.of("order.created", userId=culprit)

    def found() -> bool:
        supervise(system, "payments-consume", ends)
        return bool(topics.dead_letters("order.created", "payments", order.key))

    eventually(found, within=90, every=0.1, what="the culprit is dead-lettered")
    settle(system, topics, meanwhile=lambda: supervise(system, "payments-consume", ends))

    check(system, topics, users)
    why = died_at(topics, "order.created.payments.dlq", order.partition, order.offset)
    assert (why["reason"], why["attempts"]) == ("crash", str(TRIES))
    assert set(ends) == {-6}
    assert len(ends) <= 2 + 2 * TRIES


def test_killed_repeatedly_nothing_is_dead_lettered(system, topics):
    """Kills that are nobody's fault, while an event of another key is being retried and holds the group's place."""
    unknown = str(uuid.uuid4())
    payment = b'{"paymentId": "%s", "orderId": "%s", "status": "completed"}' % (unknown.encode(), unknown.encode())
    system.start("orders-consume", **CALM)
    topics.send("payment.completed", unknown.encode(), payment, [("ce_id", unknown.encode())])
    users = new_ids(80)
    for number in range(8):
        for user_id in users[number * 10 : number * 10 + 10]:
            topics.send_later(*wire(user_created(user_id)))
        topics.flush()
        eventually(lambda: system["orders-consume"].logged("event failed, will try again"), what="it is retried")
        system["orders-consume"].kill9()
        system.start("orders-consume", **CALM)
    eventually(
        lambda: system.rows("orderdb", "SELECT count(*) FROM orders WHERE user_id = ANY(%s) AND status <> 'pending'", users)
        == [(80,)],
        within=60,
    )  # fmt: skip
    letters = topics.dead_letters("payment.completed", "orders", unknown.encode())
    assert letters == [], "an event that is retried is no culprit"
    system.start("orders-consume")
    settle(system, topics)
    check(system, topics, users)
    [letter] = topics.dead_letters("payment.completed", "orders", unknown.encode())
    assert letter.header("deadletter-reason") == "handler"
