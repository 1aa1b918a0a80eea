"""Checks what happened to each user, from the databases and from Kafka."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from confluent_kafka import KafkaException

from chassis.events.envelope import Envelope, Outgoing, seal
from chassis.observability import correlation
from tests.acceptance.harness import Harness
from tests.acceptance.topics import DEAD_LETTER_TOPICS, Headers, Topics
from tests.waiting import eventually
from users.events import UserCreated

UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"


def user_created(user_id: str, *, request_id: str = "") -> Envelope:
    """The event that users would publish about a user."""
    event = UserCreated.model_validate(
        {"userId": user_id, "email": f"{user_id}@example.org", "name": "Ada", "createdAt": "2026-11-23T12:00:00Z"}
    )
    with correlation.bind_request_id(request_id or correlation.new()):
        return seal([Outgoing(event, user_id)])[0]


def wire(envelope: Envelope) -> tuple[str, bytes, bytes, Headers]:
    """Topic, key, value and headers of a record."""
    headers: Headers = [(name, value.encode()) for name, value in envelope.headers]
    return envelope.topic, envelope.key.encode(), envelope.payload, headers


def new_ids(count: int) -> list[str]:
    """New ids of users."""
    return [str(uuid.uuid4()) for _ in range(count)]


def settle(
    system: Harness, topics: Topics, *, within: float = 120.0, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Wait until the whole system has nothing left to do; `meanwhile` is called repeatedly.

    Checks in the direction of the events: a part that is idle when it is checked gets no further work.
    """

    def quiet() -> bool:
        meanwhile()
        try:
            waiting = next((missing for stage in stages if (missing := stage())), None)
        except KafkaException as error:  # the broker has just restarted, or its coordinator is moving
            waiting = str(error)
        assert waiting is None, f"not within {within:g} s: {waiting}"
        return True

    def unsent(database: str) -> str:
        [(rows,)] = system.rows(database, UNSENT)
        return f"{rows} rows in the outbox of {database}" if rows else ""

    def unread(topic: str) -> str:
        return "" if topics.caught_up(topic) else f"the test has not read all of {topic}"

    topics.flush()
    # Each says what is missing.
    stages: list[Callable[[], str]] = [
        partial(unsent, "userdb"),
        partial(topics.unprocessed, "orders", "user.created"),
        partial(unsent, "orderdb"),
        partial(topics.unprocessed, "payments", "order.created"),
        partial(topics.unprocessed, "orders", "payment.completed"),
        partial(unsent, "orderdb"),
        *(partial(unread, name) for name in DEAD_LETTER_TOPICS),
    ]
    eventually(quiet, within=within, every=0.2)


def check(
    system: Harness, topics: Topics, user_ids: Iterable[str], *, relayed_once: bool = True, dead_lettered: bool = False
) -> None:
    """Check a settled system: each user has one order, which was published, paid and closed once.

    After a kill of the relay, or of PostgreSQL, an event may be sent twice, with the same id, and payments then publishes its own
    twice, with the same id; `relayed_once` requires that none did. No event may be in a dead-letter topic, unless `dead_lettered`.
    """
    users = set(user_ids)
    rows = system.rows("orderdb", "SELECT user_id, id::text, status FROM orders WHERE user_id = ANY(%s)", list(users))
    assert Counter(user for user, _, _ in rows) == dict.fromkeys(users, 1)
    assert {status for _, _, status in rows} <= {"paid", "failed"}
    orders = {order: status for _, order, status in rows}

    created = [record for record in topics.of("order.created") if record.payload.get("orderId") in orders]
    assert Counter(order for order, _ in {(r.payload["orderId"], r.id) for r in created}) == dict.fromkeys(orders, 1)
    if relayed_once:
        assert len(created) == len(orders)

    payments = [record for record in topics.of("payment.completed") if record.payload.get("orderId") in orders]
    assert Counter(order for order, _ in {(r.payload["orderId"], r.id) for r in payments}) == dict.fromkeys(orders, 1)
    if relayed_once:
        assert len(payments) == len(orders)
    statuses = {record.payload["orderId"]: record.payload["status"] for record in payments}
    assert {order: {"completed": "paid", "failed": "failed"}[status] for order, status in statuses.items()} == orders

    keys = {key.encode() for key in (*users, *orders)}
    assert (
        dead_lettered
        or [record for name in DEAD_LETTER_TOPICS for record in topics.of(name) if record.key in keys] == []
    )


def check_placed(system: Harness, topics: Topics, order_ids: Iterable[str]) -> None:
    """Check orders that clients created: each exists, is settled, and was paid once."""
    placed = sorted(order_ids)
    rows = system.rows("orderdb", "SELECT id::text, status FROM orders WHERE id::text = ANY(%s)", placed)
    assert sorted(order for order, _ in rows) == placed
    assert {status for _, status in rows} <= {"paid", "failed"}
    expected = set(placed)
    paid = [r.payload["orderId"] for r in topics.of("payment.completed") if r.payload.get("orderId") in expected]
    assert sorted(paid) == placed
