"""A payments worker that is stopped while a Kafka transaction of its own is open."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.acceptance.keyed_load import joined
from tests.acceptance.ledger import new_ids, user_created, wire
from tests.acceptance.topics import Topics
from tests.waiting import eventually

ORDERS = 400


@dataclass(frozen=True)
class Torn:
    """What a frozen worker has left open: since when, and which partitions and offsets of payment.completed wait for it.

    Behind its own may be those of other workers. `users` are those whose orders it, or another worker, was paying for.
    """

    users: list[str]
    places: set[tuple[int, int]]
    frozen_at: float


def wait_for_payment(system, topics) -> list[str]:
    """Users whose welcome orders are there, and not published yet."""
    system.end(["orders-relay"])
    users = new_ids(ORDERS)
    for user_id in users:
        topics.send_soon(*wire(user_created(user_id)))
    topics.flush()
    done = "SELECT count(*) FROM orders WHERE user_id = ANY(%s)"
    eventually(lambda: system.rows("orderdb", done, users) == [(ORDERS,)], what="all orders made")
    return users


def is_open(topics) -> bool:
    """Whether records stand on payment.completed that wait for the end of their transaction."""
    return _open(_ends(topics))


def stays_open(topics) -> bool:
    """Whether one is open, and nothing else goes on: for a second nothing is written and nothing ends.

    One whose end was asked for already is closed in a moment, and so is one of a worker that lives.
    """
    before, since = _ends(topics), time.monotonic()
    while time.monotonic() - since < 1.0:
        time.sleep(0.02)
        now = _ends(topics)
        if not _open(now):
            return False
        if now != before:
            before, since = now, time.monotonic()
    return _open(before)


def _ends(topics) -> tuple[dict, dict]:
    return topics.ends("payment.completed"), topics.ends("payment.completed", uncommitted=True)


def _open(ends: tuple[dict, dict]) -> bool:
    committed, all_of_it = ends
    return any(committed[place] < end for place, end in all_of_it.items())


def freeze_inside_transaction(system, topics, raw: Topics, *, beside: Sequence[str] = (), **changes: str) -> Torn:
    """Freeze payments while a transaction of its own is open, with records in it.

    Tried at the sight of a batch's first record, until it was quick enough. `beside` are more workers, which pay for
    their share at once and then are idle. `changes` are variables of the frozen one.
    """
    # Small batches: a hundred transactions, each a chance.
    joined(system, "payments-consume", CONSUMER_BATCH_SIZE="4", **changes)
    joined(system, *beside)
    worker = system["payments-consume"]
    users = wait_for_payment(system, topics)
    eventually(lambda: raw.caught_up("payment.completed"))
    had = len(raw.of("payment.completed"))
    system.spawn("orders-relay")
    for _ in range(ORDERS):
        eventually(
            lambda had=had: len(raw.of("payment.completed")) > had, every=0.0002, what="payments begins a transaction"
        )
        os.kill(worker.pid, signal.SIGSTOP)
        frozen_at = time.time()
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
    return Torn(users, torn, frozen_at)
