"""`manage.py reconcile` on the running system finds nothing, or exactly the event that was deleted."""

import uuid

import pytest

from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

# These tests share a system with others, which leave orders and users of their own behind: only what is young counts.
SINCE = ("--since", "10m", "--older-than", "0s")


def lines(said: str) -> list[str]:
    """The findings: each is a line that names what is missing since when."""
    return [line for line in said.splitlines() if ": missing for " in line]


def subject(finding: str) -> str:
    """What is missing, without since when."""
    return finding.partition(": missing for ")[0]


def test_finds_a_deleted_order_created_by_itself_and_gets_it_paid(system, topics):
    sound = new_ids(5)
    for user_id in sound:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    settle(system, topics)
    _, before = system.manage("orders", "reconcile", *SINCE)
    assert not [line for line in lines(before) if any(user_id in line for user_id in sound)]

    system.end(["orders-relay"])
    items = [{"productId": "tea-pot", "quantity": 2, "price": 19.99}]
    order = system.client.post("/api/orders", json={"userId": sound[0], "items": items}).json()
    with system.database("orderdb") as connection:
        assert connection.execute("DELETE FROM outbox WHERE key = %s AND sent_at IS NULL", [order["id"]]).rowcount == 1
    system.start("orders-relay")

    status, said = system.manage("orders", "reconcile", *SINCE)
    known = set(map(subject, lines(before)))
    [found] = [line for line in lines(said) if subject(line) not in known]
    assert found.startswith(f"payment of order {order['id']}: missing for ")
    assert "order.created is neither in the outbox nor on its topic" in found
    assert status == 1

    status, said = system.manage("orders", "reconcile", *SINCE, "--republish")
    assert status == 1
    eventually(lambda: system.client.get(f"/api/orders/{order['id']}").json()["status"] != "pending")
    settle(system, topics)
    status, said = system.manage("orders", "reconcile", *SINCE)
    assert order["id"] not in said
    check(system, topics, sound[1:])
    [created] = topics.of("order.created", orderId=order["id"])
    assert {record.payload["orderId"] for record in topics.by_id("order.created", created.id)} == {order["id"]}


def test_finds_a_deleted_user_created_and_a_lost_welcome_order(system, topics):
    system.manage("users", "reconcile", *SINCE, "--republish")  # what other tests have deleted
    settle(system, topics)
    system.end(["users-relay"])
    user = system.client.post("/api/users", json={"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}).json()
    with system.database("userdb") as connection:
        assert connection.execute("DELETE FROM outbox WHERE key = %s", [user["id"]]).rowcount == 1
    system.start("users-relay")

    status, said = system.manage("users", "reconcile", *SINCE)
    assert [line.partition(":")[0] for line in lines(said)] == [f"user.created of user {user['id']}"]
    assert status == 1
    system.manage("users", "reconcile", *SINCE, "--republish")
    settle(system, topics)
    check(system, topics, [user["id"]])
    assert system.manage("users", "reconcile", *SINCE) == (0, "Nothing found.\n")

    # The worst: orders has consumed it, and somebody deleted what came of it.
    with system.database("orderdb") as connection:
        [(order_id,)] = connection.execute(
            "DELETE FROM orders WHERE user_id = %s RETURNING id", [user["id"]]
        ).fetchall()
        connection.execute("DELETE FROM outbox WHERE key = %s", [str(order_id)])
    of_user = "SELECT id, status FROM orders WHERE user_id = %s AND is_welcome"
    _, said = system.manage("orders", "reconcile", *SINCE, "--republish")
    [found] = [line for line in lines(said) if user["id"] in line]
    assert "orders has passed it without effect" in found
    assert system.rows("orderdb", of_user, user["id"]) == [(order_id, "pending")], said

    # It is paid for by the same payment, which the inbox knows: so that needs a second look.
    settle(system, topics)
    _, said = system.manage("orders", "reconcile", *SINCE, "--republish")
    [found] = [line for line in lines(said) if str(order_id) in line]
    assert "payment.completed/" in found
    assert "orders has passed it without effect" in found
    [(_, status)] = system.rows("orderdb", of_user, user["id"])
    assert status in {"paid", "failed"}


@pytest.mark.parametrize("service", ["gateway", "payments"])
def test_a_service_without_state_says_so(harness, service):
    status, said = harness.manage(service, "reconcile")
    assert (status, f"{service} has no reconciliation.py" in said) == (1, True)
