"""Payments is killed -9 inside its Kafka transaction: nothing of it is ever read, and each order is paid exactly once."""

import pytest

from tests.acceptance.ledger import check, settle
from tests.acceptance.open_transactions import freeze_inside_transaction, is_open
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance


def test_after_a_restart_each_order_is_paid_once(system, topics, raw):
    # Long before the broker would end it.
    torn = freeze_inside_transaction(system, topics, raw, KAFKA_TRANSACTION_TIMEOUT_SECONDS="600")
    system["payments-consume"].kill9()

    system.start("payments-consume")
    eventually(lambda: not is_open(topics), what="its successor has ended the transaction")
    settle(system, topics)

    read = {(record.partition, record.offset) for record in topics.of("payment.completed")}
    assert not torn.places & read, "a reader of committed records saw some of the torn transaction"
    check(system, topics, torn.users)


def test_the_broker_aborts_the_transaction_of_a_worker_that_never_returns(system, topics, raw):
    torn = freeze_inside_transaction(system, topics, raw)
    system["payments-consume"].kill9()

    # Another slot, with a transactional.id of its own: it cannot end the transaction, the broker's time limit must.
    system.start("payments-consume-1")
    eventually(lambda: not is_open(topics), what="the broker has ended the transaction")
    settle(system, topics)

    check(system, topics, torn.users)
