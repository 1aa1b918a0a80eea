"""Every group consumes everything again from the beginning, without an inbox: nothing changes."""

import re
from collections import Counter

import pytest

from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

ORDERS = "SELECT id, status, payment_id FROM orders WHERE user_id = ANY(%s) ORDER BY id"
SETTLED = "SELECT user_id FROM orders GROUP BY user_id HAVING bool_and(status <> 'pending')"
"""Users of whom nothing is dead-lettered: what another test has dead-lettered is well again when it is replayed, and only then has its effect."""
DEAD_LETTERS = "SELECT count(*) FROM outbox WHERE topic LIKE '%%.dlq'"


def test_a_replay_from_the_beginning_changes_nothing(system, topics):
    users = new_ids(50)
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    settle(system, topics)
    check(system, topics, users)
    everybody = [user_id for (user_id,) in system.rows("orderdb", SETTLED)]
    assert set(users) <= set(everybody)
    orders, dead = system.rows("orderdb", ORDERS, everybody), system.rows("orderdb", DEAD_LETTERS)
    announced = Counter(record.payload.get("userId") for record in topics.of("order.created"))
    payments = [r for r in topics.of("payment.completed") if r.payload.get("userId") in everybody]

    system.end(["orders-consume", "payments-consume"])
    with system.database("orderdb") as connection:
        connection.execute("TRUNCATE inbox")
    replayed = [system.spawn(name, "--replay-from", "beginning") for name in ("orders-consume", "payments-consume")]
    eventually(lambda: all(member.ready() for member in replayed))
    settle(system, topics)

    assert system.rows("orderdb", ORDERS, everybody) == orders
    assert system.rows("orderdb", DEAD_LETTERS) == dead
    now = Counter(record.payload.get("userId") for record in topics.of("order.created"))
    assert {user: now[user] for user in everybody} == {user: announced[user] for user in everybody}, "announced again"
    again = [r for r in topics.of("payment.completed") if r.payload.get("userId") in everybody]
    assert len(again) > len(payments), "payments did not pay again"
    assert {record.id for record in again} == {record.id for record in payments}, "a payment became another one"
    for consumer in replayed:
        assert re.search(r"/0: was at \d+, continues at 0 of \d+", consumer.child.log.read_text())
    inbox = system.rows("orderdb", "SELECT count(*) FROM inbox WHERE key = ANY(%s)", users)
    assert inbox == [(len(users),)], "they were not consumed again"


def test_an_active_group_is_not_reset(system, topics):
    place = topics.committed("orders", "user.created")
    status, said = system.manage("orders", "consume", "--replay-from", "beginning")
    assert (status, "group orders has live members: stop its consumers first" in said) == (1, True)
    assert topics.committed("orders", "user.created") == place
    status, said = system.manage("orders", "consume", "--replay-from", "yesterday")
    assert (status, "'yesterday' is not `beginning`" in said) == (1, True)
