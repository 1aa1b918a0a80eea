"""Workers that are suspended beyond their session, and resumed after others took over, write nothing twice."""

import os
import signal

import pytest

from tests.acceptance.keyed_load import joined
from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.open_transactions import freeze_inside_transaction
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

PARTITIONS = {"orders-consume": 12, "payments-consume": 6}
IN_TRANSACTION = """
SELECT pid FROM pg_stat_activity WHERE datname = 'orderdb' AND application_name = 'orders' AND {what}
"""
WAITS_FOR_ORDERS = IN_TRANSACTION.format(what="wait_event_type = 'Lock' AND wait_event = 'relation'")
IDLE = IN_TRANSACTION.format(what="state = 'idle in transaction'")


def freeze(member) -> None:
    os.kill(member.pid, signal.SIGSTOP)


def wake(member) -> None:
    os.kill(member.pid, signal.SIGCONT)


def taken_over(system, name: str) -> None:
    """Wait until a consumer has the partitions of all, as the sessions of the others are over."""
    kind = name.rpartition("-")[0]
    eventually(lambda: system[name].metric("events_consumer_assigned_partitions") == PARTITIONS[kind])


def send(topics, count: int) -> list[str]:
    """Events about new users, who are returned."""
    users = new_ids(count)
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    return users


def alone_again(system, topics, name: str, *, replica: str) -> list[str]:
    """What woke up is a member again: it works alone once the other has left. Returns the users of that work."""
    before = system[name].pid
    system.end([replica])
    users = send(topics, 30)
    settle(system, topics)
    assert (system[name].alive, system[name].pid) == (True, before)
    return users


def counted(system, users: list[str]) -> None:
    """Each event was claimed once."""
    assert system.rows("orderdb", "SELECT count(*) FROM inbox WHERE key = ANY(%s)", users) == [(len(users),)]


@pytest.fixture
def two(system):
    """Two consumers of orders, each with partitions."""
    joined(system, "orders-consume-1")
    return system


def test_consumer_frozen_while_idle(two, topics):
    freeze(two["orders-consume"])
    users = send(topics, 100)
    taken_over(two, "orders-consume-1")
    settle(two, topics)
    wake(two["orders-consume"])
    users += alone_again(two, topics, "orders-consume", replica="orders-consume-1")
    counted(two, users)
    check(two, topics, users)


def test_consumer_frozen_inside_its_transaction(system, topics):
    """It has claimed its events and made the orders, and never came to commit; the other makes them."""
    with system.database("orderdb") as hold, hold.transaction():
        hold.execute("LOCK TABLE orders IN SHARE MODE")
        users = send(topics, 100)
        eventually(lambda: system.rows("orderdb", WAITS_FOR_ORDERS), what="it waits to write orders")
        freeze(system["orders-consume"])
    eventually(lambda: system.rows("orderdb", IDLE), what="its statement is done, its transaction open")
    system.start("orders-consume-1")
    taken_over(system, "orders-consume-1")
    settle(system, topics)
    wake(system["orders-consume"])
    users += alone_again(system, topics, "orders-consume", replica="orders-consume-1")
    counted(system, users)
    check(system, topics, users)


def test_consumer_fenced_by_another_with_its_id(system, topics):
    """Who is fenced begins anew, once; so of two with one CONSUMER_ID one remains, and nothing happens twice."""
    first = system["orders-consume"]
    freeze(first)
    users = send(topics, 100)
    [second] = system.start("orders-consume-1", CONSUMER_ID="orders-0")
    settle(system, topics)
    wake(first)
    users += send(topics, 100)
    eventually(lambda: first.alive != second.alive, what="one of them leaves the place to the other")
    gone = second if first.alive else first
    assert "another running process has the same CONSUMER_ID ('orders-0' of orders)" in gone.child.last_lines()
    users += send(topics, 100)
    settle(system, topics)
    counted(system, users)
    check(system, topics, users)


def test_payments_frozen_inside_its_transaction(system, topics, raw):
    """The broker has ended its transaction and its session, and another has paid: it begins anew, as the same process."""
    torn = freeze_inside_transaction(system, topics, raw, others=["payments-consume-1"])
    worker = system["payments-consume"]
    settle(system, topics)
    wake(worker)
    users = alone_again(system, topics, "payments-consume", replica="payments-consume-1")
    check(system, topics, torn.users + users)
    read = {(record.partition, record.offset) for record in topics.of("payment.completed")}
    written = {(record.partition, record.offset) for record in raw.of("payment.completed")}
    assert written - read, "its transaction was not open"


def test_payments_fenced_by_another_with_its_id(system, topics, raw):
    """Its transactional.id is another's now: what it wakes up with is refused, and it begins anew."""
    torn = freeze_inside_transaction(system, topics, raw)
    worker = system["payments-consume"]
    [other] = system.start("payments-consume-1", CONSUMER_ID="payments-0")
    settle(system, topics)
    wake(worker)
    eventually(lambda: worker.logged("fenced, starting over") or not worker.alive)
    eventually(lambda: worker.alive != other.alive, what="one of them leaves the place to the other")
    users = send(topics, 30)
    settle(system, topics)
    check(system, topics, torn.users + users)
