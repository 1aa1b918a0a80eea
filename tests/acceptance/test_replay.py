"""Everything consumed once more, from the beginning, by every group, without an inbox: nothing changes."""

import re

import pytest

from tests.acceptance.books import check, new_ids, settle, user_created, wire
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

ORDERS = "SELECT id, status, payment_id FROM orders ORDER BY id"
DEAD_LETTERS = "SELECT count(*) FROM outbox WHERE topic LIKE '%%.dlq'"


def test_a_replay_from_the_beginning_changes_nothing(system, topics):
    users = new_ids(50)
    for user_id in users:
        topics.send_soon(*wire(user_created(user_id)))
    topics.flush()
    settle(system, topics)
    check(system, topics, users)
    orders, dead = system.rows("orderdb", ORDERS), system.rows("orderdb", DEAD_LETTERS)
    created, payments = len(topics.of("order.created")), topics.of("payment.completed")

    system.end(["orders-consume", "payments-consume"])
    with system.database("orderdb") as connection:
        connection.execute("TRUNCATE inbox")
    replayed = [system.spawn(name, "--replay-from", "beginning") for name in ("orders-consume", "payments-consume")]
    eventually(lambda: all(member.ready() for member in replayed))
    settle(system, topics)

    assert system.rows("orderdb", ORDERS) == orders
    assert system.rows("orderdb", DEAD_LETTERS) == dead
    assert len(topics.of("order.created")) == created, "an order was announced again"
    again = topics.of("payment.completed")
    assert len(again) > len(payments), "payments did not pay again"
    assert {record.id for record in again} == {record.id for record in payments}, "a payment became another one"
    for consumer in replayed:
        assert re.search(r"/0: was at \d+, goes on at 0 of \d+", consumer.child.log.read_text())
    inbox = system.rows("orderdb", "SELECT count(*) FROM inbox WHERE key = ANY(%s)", users)
    assert inbox == [(len(users),)], "they were not consumed again"


def test_a_group_that_is_at_work_is_not_set_back(system, topics):
    place = topics.committed("orders", "user.created")
    status, said = system.manage("orders", "consume", "--replay-from", "beginning")
    assert (status, "group orders has live members: stop its consumers first" in said) == (1, True)
    assert topics.committed("orders", "user.created") == place
    status, said = system.manage("orders", "consume", "--replay-from", "yesterday")
    assert (status, "'yesterday' is none of" in said) == (1, True)
