"""The account that a test draws up: what became of each user, from the databases and from Kafka itself."""

import uuid
from collections import Counter
from collections.abc import Iterable

from confluent_kafka import KafkaException

from chassis.messaging.envelope import Envelope, Outgoing, seal
from chassis.observability import correlation
from tests.acceptance.stand import Stand
from tests.acceptance.topics import Headers, Topics
from tests.waiting import eventually
from users.events import UserCreated

UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"


def user_created(user_id: str, *, request_id: str = "") -> Envelope:
    """The very bytes that users would publish about a user."""
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
    """Ids of users that nobody else has."""
    return [str(uuid.uuid4()) for _ in range(count)]


def settle(system: Stand, topics: Topics, *, within: float = 60.0) -> None:
    """Wait until the whole system has nothing left to do.

    Asked from where events come from to where they end: what was empty at its turn gets nothing new any more.
    """

    def quiet() -> bool:
        try:
            return (
                system.rows("userdb", UNSENT) == [(0,)]
                and topics.worked_off("orders", "user.created")
                and system.rows("orderdb", UNSENT) == [(0,)]
                and topics.worked_off("payments", "order.created")
                and topics.worked_off("orders", "payment.completed")
                and system.rows("orderdb", UNSENT) == [(0,)]
                and all(topics.caught_up(f"{topic}.dlq") for topic in ("user.created.orders", "payment.completed.orders"))
                and topics.caught_up("order.created.payments.dlq")
            )
        except KafkaException:  # the coordinator is just moving, or the broker has just come back
            return False

    eventually(quiet, within=within, every=0.2, what="the system has nothing left to do")


def check(system: Stand, topics: Topics, user_ids: Iterable[str], *, relayed_once: bool = True) -> None:
    """Hold the account of a settled system: each user has one order, which was published, paid for and closed once.

    A relay that was killed may send an event twice, as the same event; `relayed_once` says that none was.
    """
    users = set(user_ids)
    rows = system.rows("orderdb", "SELECT user_id, id::text, status FROM orders WHERE user_id = ANY(%s)", list(users))
    assert Counter(user for user, _, _ in rows) == dict.fromkeys(users, 1)
    assert {status for _, _, status in rows} <= {"paid", "failed"}
    orders = {order: status for _, order, status in rows}

    created = [record for record in topics.of("order.created") if record.payload["orderId"] in orders]
    assert Counter(order for order, _ in {(r.payload["orderId"], r.id) for r in created}) == dict.fromkeys(orders, 1)
    if relayed_once:
        assert len(created) == len(orders)

    payments = [record for record in topics.of("payment.completed") if record.payload.get("orderId") in orders]
    assert Counter(record.payload["orderId"] for record in payments) == dict.fromkeys(orders, 1)
    assert len({record.id for record in payments}) == len(orders)
    said = {record.payload["orderId"]: record.payload["status"] for record in payments}
    assert {order: {"completed": "paid", "failed": "failed"}[status] for order, status in said.items()} == orders

    keys = {key.encode() for key in (*users, *orders)}
    assert [letter for name in DEAD_LETTERS for letter in topics.of(name) if letter.key in keys] == []


DEAD_LETTERS = ("user.created.orders.dlq", "order.created.payments.dlq", "payment.completed.orders.dlq")
