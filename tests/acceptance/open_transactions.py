"""Suspends a payments worker while it has an open Kafka transaction."""

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
class OpenTransaction:
    """The open transaction of a suspended worker: since when, and the uncommitted records of payment.completed.

    The records may include those of other workers after its own. `users` are the users whose orders are being paid.
    """

    users: list[str]
    places: set[tuple[int, int]]
    frozen_at: float


def wait_for_payment(system, topics) -> list[str]:
    """Create users whose welcome orders exist, but are not published yet."""
    system.end(["orders-relay"])
    users = new_ids(ORDERS)
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    done = "SELECT count(*) FROM orders WHERE user_id = ANY(%s)"
    eventually(lambda: system.rows("orderdb", done, users) == [(ORDERS,)], what="all orders created")
    return users


def is_open(topics) -> bool:
    """Whether payment.completed has records of an open transaction."""
    return _open(_ends(topics))


def stays_open(topics) -> bool:
    """Whether a transaction is open and nothing changes for a second.

    A transaction that is being committed, or that belongs to a running worker, would end within a second.
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


def freeze_inside_transaction(
    system, topics, raw: Topics, *, others: Sequence[str] = (), **changes: str
) -> OpenTransaction:
    """Suspend payments while it has an open transaction that contains records.

    It suspends payments at the first record of a batch, and retries until that is fast enough. `others` are further workers,
    which process their share and are then idle. `changes` are environment variables of the suspended worker.
    """
    # Small batches, so that there are a hundred transactions to try.
    joined(system, "payments-consume", CONSUMER_BATCH_SIZE="4", **changes)
    joined(system, *others)
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
    records = {
        (record.partition, record.offset)
        for record in raw.of("payment.completed")
        if record.offset >= ends[record.topic, record.partition]
    }
    assert records
    return OpenTransaction(users, records, frozen_at)
