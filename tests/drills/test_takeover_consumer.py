"""A consumer is killed -9 under load: how long its partitions stop until it or another one resumes."""

import pytest

from tests.acceptance.keyed_load import check_order_per_key, joined
from tests.acceptance.ledger import settle
from tests.drills.measures import all_resumed_after, now, up_at
from tests.waiting import eventually

pytestmark = pytest.mark.drill

CONSUMED = ("user.created", "payment.completed")
"""Of both, the dead consumer had partitions."""


def busy(system, topics) -> None:
    """Wait until every partition is being worked on."""
    for topic in CONSUMED:
        eventually(lambda topic=topic: len({record.partition for record in topics.of(topic)}) == 6)
        all_resumed_after(system, topics, topic, now())


def test_consumer_restarted(system, topics, load, figures, limit):
    """Consumer killed -9 and restarted under its CONSUMER_ID, with another one beside it. Limit: 1 s once it is up."""
    joined(system, "orders-consume-1")
    busy(system, topics)

    system["orders-consume"].kill9()
    killed = now()
    up = up_at(system.spawn("orders-consume"))
    after = {topic: all_resumed_after(system, topics, topic, up) for topic in CONSUMED}
    figures["its start took"] = up - killed
    figures["all partitions resume after"] = worst = max(max(times.values()) for times in after.values())
    load.end()
    settle(system, topics)

    check_order_per_key(system, topics, load)
    limit(worst, 1.0)


def replaced_after(system, topics, load, figures) -> float:
    """Kill a consumer of two under load, and hold the account; how long the slowest of its partitions stood still."""
    joined(system, "orders-consume-1")
    busy(system, topics)

    system["orders-consume"].kill9()
    killed = now()
    after = {topic: all_resumed_after(system, topics, topic, killed) for topic in CONSUMED}
    figures["all partitions resume after"] = worst = max(max(times.values()) for times in after.values())
    load.end()
    settle(system, topics)

    check_order_per_key(system, topics, load)
    assert worst > 1.0, "the one that was killed had no partitions"
    return worst


def test_consumer_never_comes_back(system, topics, load, figures, limit):
    """Consumer killed -9 and never restarted, with another one beside it. Limit: 6 s from the kill."""
    limit(replaced_after(system, topics, load, figures), 6.0)
