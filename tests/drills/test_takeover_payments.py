"""Payments is killed -9 inside its Kafka transaction: how long `read_committed` readers and orders wait."""

import pytest

from tests.acceptance.ledger import check, settle
from tests.acceptance.open_transactions import OpenTransaction, freeze_inside_transaction
from tests.drills.measures import now, resumed_after, up_at

pytestmark = pytest.mark.drill


def first_of(torn: OpenTransaction) -> dict[int, int]:
    """Where the torn transaction begins, in each partition that it is in."""
    first: dict[int, int] = {}
    for partition, offset in torn.places:
        first[partition] = min(offset, first.get(partition, offset))
    return first


def test_payments_restarted(system, topics, raw, figures, limit):
    """Payments killed -9 inside its transaction and restarted under its CONSUMER_ID. Limit: 1 s once it is up."""
    torn = freeze_inside_transaction(system, topics, raw)
    system["payments-consume"].kill9()
    killed = now()

    up = up_at(system.spawn("payments-consume"))
    settle(system, topics)
    after = resumed_after(system, topics, "payment.completed", up, behind=first_of(torn))
    figures["its start took"] = up - killed
    figures["readers get past the transaction after"] = worst = max(after.values(), default=0.0)

    check(system, topics, torn.users)
    limit(worst, 1.0)


def paid_after(system, topics, raw, figures) -> float:
    """Kill a payments worker of two inside its transaction, and hold the account; how long until all orders were paid."""
    torn = freeze_inside_transaction(system, topics, raw, others=["payments-consume-1"])
    system["payments-consume"].kill9()  # as good as dead since it was frozen: that is where time begins
    settle(system, topics)
    query = "SELECT max(extract(epoch FROM i.consumed_at)::float8) FROM inbox i JOIN orders o ON o.id::text = i.key WHERE o.user_id = ANY(%s)"
    [(paid_at,)] = system.rows("orderdb", query, torn.users)
    after = resumed_after(system, topics, "payment.completed", torn.frozen_at, behind=first_of(torn))
    # The other worker may have had nothing more to pay for where the torn transaction stands.
    figures["readers get past the transaction after"] = max(after.values(), default=0.0)
    figures["all orders are paid after"] = worst = paid_at - torn.frozen_at

    check(system, topics, torn.users)
    return worst


def test_payments_never_comes_back(system, topics, raw, figures, limit):
    """Payments killed -9 inside its transaction and never restarted, with another one beside it. Limit: 6 s."""
    limit(paid_after(system, topics, raw, figures), 6.0)
