"""Three of a thousand keys hang at the default time limit in a real consumer: how long all others stop."""

import uuid
from itertools import pairwise

import pytest

from tests.acceptance.keyed_load import check_order_per_key, handled
from tests.acceptance.ledger import new_ids, settle, user_created, wire
from tests.acceptance.test_poison import died_at
from tests.drills.measures import now
from tests.waiting import eventually

pytestmark = pytest.mark.drill

LIMIT_SECONDS = 30.0
"""HANDLER_TIMEOUT_SECONDS by default."""

ONCE = {"RETRY_ATTEMPTS": "1"}
"""Each event that hangs is tried with its full limit once, not three times: the drill is over sooner, and shows the same."""


def test_other_keys_while_three_hang(system, topics, load, figures, limit):
    """Longest gap of all other keys, with three hanging keys of 1,000. Limit: one time limit; all others within three."""
    system.end(["orders-consume"])
    hanging = {f"sleeps-{uuid.uuid4()}" for _ in range(3)}
    users = new_ids(997)
    placed = {}
    for place, user_id in zip((10, 400, 800), hanging, strict=True):
        users.insert(place, user_id)
    for user_id in users:
        if user_id in hanging:
            placed[user_id] = topics.send(*wire(user_created(user_id)))
        else:
            topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    others = [user_id for user_id in users if user_id not in hanging]
    topics_of_all = [*others, *load.sent]

    consumer = system.spawn("orders-consume", fault="handlers-never-return", **ONCE)
    eventually(consumer.ready)
    began = now()
    eventually(lambda: len(handled(system, others)) == len(others), within=4 * LIMIT_SECONDS, every=0.2)
    eventually(
        lambda: consumer.metric("events_dead_lettered_total") == 3,
        within=20 * LIMIT_SECONDS,
        every=0.5,
        what="all died",
    )
    ended = now()
    load.end()
    settle(system, topics, within=120)
    check_order_per_key(system, topics, load)

    at = handled(system, topics_of_all)
    moments = [began, *sorted(moment for moment in at.values() if began < moment < ended)]
    gap = max(later - earlier for earlier, later in pairwise(moments))
    done = max(handled(system, others).values()) - began
    figures["longest gap of other keys"] = gap
    figures["all others of the thousand were handled after"] = done
    figures["all three were dead letters after"] = ended - began
    for partition, offset in placed.values():
        assert died_at(topics, "user.created.orders.dlq", partition, offset)["reason"] == "timeout"
    limit(done, 3 * LIMIT_SECONDS)
    limit(gap, LIMIT_SECONDS + 1)
