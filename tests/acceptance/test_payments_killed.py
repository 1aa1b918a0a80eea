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


def wait_for_payment(system, topics) -> list[str]:
    """Users whose welcome orders are published, while nobody is there to pay for them."""
    system.end(["payments-consume"])
    users = new_ids(ORDERS)
    for user_id in users:
        topics.send_soon(*wire(user_created(user_id)))
    topics.flush()
    wanted = set(users)
    eventually(
        lambda: wanted <= {record.payload["userId"] for record in topics.of("order.created")},
        what="all orders published",
    )
    return users


def is_open(topics) -> bool:
    """Whether records stand on payment.completed that wait for the end of their transaction."""
    committed, all_of_it = topics.ends("payment.completed"), topics.ends("payment.completed", uncommitted=True)
    return any(committed[place] < end for place, end in all_of_it.items())


def stays_open(topics) -> bool:
    """Whether it stays open; one whose end was asked for already is closed in a moment."""
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        if not is_open(topics):
            return False
        time.sleep(0.02)
    return True


def freeze_inside_transaction(system, topics, raw: Topics) -> tuple[list[str], set[tuple[int, int]]]:
    """Freeze payments while a transaction of its own is open, with records in it.

    Tried at the sight of a batch's first record, until it was quick enough. Returns the users concerned, and where the
    records of the open transaction stand.
    """
    users = wait_for_payment(system, topics)
    eventually(lambda: raw.caught_up("payment.completed"))
    had = len(raw.of("payment.completed"))
    # Small batches: a hundred transactions, each a chance.
    worker = system.spawn("payments-consume", CONSUMER_BATCH_SIZE="4")
    for _ in range(ORDERS):
        eventually(
            lambda had=had: len(raw.of("payment.completed")) > had, every=0.0002, what="payments begins a transaction"
        )
        os.kill(worker.pid, signal.SIGSTOP)
        eventually(lambda: raw.caught_up("payment.completed"))
        had = len(raw.of("payment.completed"))
        if stays_open(topics):
            break
        os.kill(worker.pid, signal.SIGCONT)
    ends = raw.ends("payment.completed")
    torn = {
        (record.partition, record.offset)
        for record in raw.of("payment.completed")
        if record.offset >= ends[record.topic, record.partition]
    }
    assert torn
    return users, torn


@pytest.fixture
def raw(stand, topics):
    """payment.completed as it stands there, committed or not."""
    servers = stand.engines.kafka.bootstrap_servers
    with Topics(servers, ["payment.completed"], uncommitted=True) as raw:
        yield raw


def test_started_again_it_pays_for_each_once(system, topics, raw):
    users, torn = freeze_inside_transaction(system, topics, raw)
    system["payments-consume"].kill9()

    system.start("payments-consume")
    eventually(lambda: not is_open(topics), within=5, what="its successor has ended the transaction")
    settle(system, topics)

    read = {(record.partition, record.offset) for record in topics.of("payment.completed")}
    assert not torn & read, "a reader of committed records saw some of the torn transaction"
    check(system, topics, users)


def test_nobody_waits_long_for_one_that_never_comes_back(system, topics, raw):
    users, _ = freeze_inside_transaction(system, topics, raw)
    system["payments-consume"].kill9()
    killed_at = time.monotonic()

    # Another slot, with a transactional.id of its own: it cannot end the transaction, the broker's time limit must.
    system.start("payments-consume-1")
    eventually(lambda: not is_open(topics), within=15, what="the broker has ended the transaction")
    waited = time.monotonic() - killed_at
    settle(system, topics)

    assert waited < 10
    check(system, topics, users)
