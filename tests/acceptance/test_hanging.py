"""The only broker is killed -9 with an open transaction of payments: even if it forgets the transaction, payments continues."""

import os
import signal
import time

import pytest

from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.open_transactions import freeze_inside_transaction, is_open
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

TRANSACTION_SECONDS = 4.0
"""KAFKA_TRANSACTION_TIMEOUT_SECONDS: what is older than this the broker ends in its first second, when it has no listener yet."""


@pytest.mark.parametrize("comes_back", ["as the same process", "started again"])
def test_hanging_transactions_are_ended_by_the_worker(system, topics, raw, kafka, comes_back):
    torn = freeze_inside_transaction(system, topics, raw)
    worker = system["payments-consume"]
    kafka.kill9()
    time.sleep(TRANSACTION_SECONDS)
    kafka.restart()
    topics.reconnect()
    if comes_back == "as the same process":
        os.kill(worker.pid, signal.SIGCONT)
    else:
        worker.kill9()
        system.start("payments-consume")
    more = new_ids(30)
    for user_id in more:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()

    settle(system, topics, meanwhile=system.revive)

    eventually(lambda: not is_open(topics), what="readers of committed records get to the end")
    read = {(record.partition, record.offset) for record in topics.of("payment.completed")}
    assert not torn.places & read, "a reader of committed records saw some of the torn transaction"
    check(system, topics, torn.users + more, relayed_once=False)
