"""Payments killed -9 inside its Kafka transaction: nothing of it is ever read, and each order is paid for exactly once."""

import os
import signal
import time

import pytest

from tests.acceptance.books import check, new_ids, settle, user_created, wire
from tests.acceptance.topics import Topics
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

ORDERS = 400
TRIES = 10


def wait_for_payment(system, topics) -> list[str]:
    """Users whose welcome orders are published, while nobody is there to pay for them."""
    system.end(["payments-consume"])
    users = new_ids(ORDERS)
    for user_id in users:
        topics.send_soon(*wire(user_created(user_id)))
    topics.flush()
    wanted = set(users)
    eventually(
        lambda: wanted <= {record.payload["userId"] for record in topics.of("order.created")}, what="all orders published"
    )
    return users


def is_open(topics) -> bool:
    """Whether records stand on payment.completed that wait for the end of their transaction."""
    committed, all_of_it = topics.ends("payment.completed"), topics.ends("payment.completed", uncommitted=True)
    return any(committed[place] < end for place, end in all_of_it.items())


def freeze_inside_transaction(system, raw: Topics) -> int:
    """Freeze payments while a transaction of its own is open, with records in it. Returns how many stood there before."""
    eventually(lambda: raw.caught_up("payment.completed"))
    for _ in range(TRIES):
        before = len(raw.of("payment.completed"))
        worker = system.spawn("payments-consume", CONSUMER_BATCH_SIZE=str(ORDERS))
        eventually(lambda before=before: len(raw.of("payment.completed")) > before, every=0.0002, what="payments begins")
        os.kill(worker.pid, signal.SIGSTOP)
        if is_open(raw):
            return before
        os.kill(worker.pid, signal.SIGCONT)  # it was quicker than we
        pytest.fail("the transaction had ended before payments was frozen: give it a larger batch")
    raise AssertionError


@pytest.fixture
def raw(stand, topics):
    """payment.completed as it stands there, committed or not."""
    servers = stand.engines.kafka.bootstrap_servers
    with Topics(servers, ["payment.completed"], uncommitted=True) as raw:
        yield raw


def test_started_again_it_pays_for_each_once(system, topics, raw):
    users = wait_for_payment(system, topics)
    before = freeze_inside_transaction(system, raw)
    torn = {(record.partition, record.offset) for record in raw.of("payment.completed")[before:]}
    system["payments-consume"].kill9()

    system.start("payments-consume")
    eventually(lambda: not is_open(topics), within=5, what="its successor has ended the transaction")
    settle(system, topics)

    read = {(record.partition, record.offset) for record in topics.of("payment.completed")}
    assert torn
    assert not torn & read, "a reader of committed records saw some of the torn transaction"
    check(system, topics, users)


def test_nobody_waits_long_for_one_that_never_comes_back(system, topics, raw):
    users = wait_for_payment(system, topics)
    freeze_inside_transaction(system, raw)
    system["payments-consume"].kill9()
    killed_at = time.monotonic()

    # Another slot, with a transactional.id of its own: it cannot end the transaction, the broker's time limit must.
    system.start("payments-consume-1")
    eventually(lambda: not is_open(topics), within=15, what="the broker has ended the transaction")
    waited = time.monotonic() - killed_at
    settle(system, topics)

    assert waited < 10
    check(system, topics, users)
