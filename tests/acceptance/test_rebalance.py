"""Consumers join and leave while events arrive: every event is processed once and in the order of its key."""

import pytest

from tests.acceptance.keyed_load import Load, check_order_per_key, joined
from tests.acceptance.ledger import settle

pytestmark = pytest.mark.acceptance

SMALL = {"CONSUMER_BATCH_SIZE": "50"}


@pytest.fixture
def load(topics):
    load = Load(topics)
    load.start()
    yield load
    load.end()


def left(system, name: str) -> int:
    """Ask a consumer to leave. Returns its exit status."""
    system[name].terminate()
    return system[name].ended()


def test_consumers_join_and_leave_under_load(system, topics, load):
    joined(system, "orders-consume-1", "payments-consume-1", **SMALL)
    joined(system, "orders-consume-2", **SMALL)
    statuses = [left(system, "orders-consume"), left(system, "payments-consume")]
    joined(system, "orders-consume", "payments-consume", **SMALL)
    statuses += [left(system, "orders-consume-1"), left(system, "orders-consume-2"), left(system, "payments-consume-1")]
    users = load.end(after=1_001)
    settle(system, topics)

    assert statuses == [0] * 5
    assert len(users) > 1_000
    check_order_per_key(system, topics, load)
