"""The account: what the evidence shows to be lost, duplicated, out of order, stuck or wrongly dead-lettered.

Pure functions of the evidence. Each check examines a number of items and names those that break a promise.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chaos.evidence import Evidence, Order
from embedded.topics import DEAD_LETTER_TOPICS, EVENTS, READERS, SeenRecord

LOST, DUPLICATED, DISORDER, STUCK, DEAD_LETTERED = "lost", "duplicated", "out of order", "stuck", "dead-lettered"
KINDS = (LOST, DUPLICATED, DISORDER, STUCK, DEAD_LETTERED)

FROM_OUTBOX = ("user.created", "order.created")
"""Topics whose order the outboxes define. Payments are not sent from an outbox, and each order has one."""

WELCOME = "welcome-product"
OUTCOMES = {"completed": "paid", "failed": "failed"}


@dataclass(frozen=True)
class Check:
    """The check of a promise: how many items were examined, and which of them break it."""

    kind: str
    what: str
    examined: int
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.what}: {len(self.wrong)} of {self.examined}, for example {', '.join(self.wrong[:3])}"
        )


class Ledger:
    """The evidence, indexed for the checks."""

    def __init__(self, evidence: Evidence) -> None:
        """Build the indexes."""
        self.evidence = evidence
        self.valid = {topic: [r for r in evidence.seen[topic] if r.place not in evidence.poison] for topic in EVENTS}
        self.by_key = {topic: _grouped(records) for topic, records in self.valid.items()}
        self.users = {user.id: user for user in evidence.users}
        self.orders = {order.id: order for order in evidence.orders}
        # The keys that must have exactly one event on each topic.
        self.expected = {
            "user.created": list(self.users),
            "order.created": list(self.orders),
            "payment.completed": list(self.orders),
        }
        self.welcome = Counter(order.user_id for order in evidence.orders if order.product == WELCOME)
        self.welcomed = [*self.users, *evidence.sequences]
        self.products = Counter(order.product for order in evidence.orders)
        self.emails = Counter(user.email.lower() for user in evidence.users)
        self.requested = {(response.request.kind, response.request.mark) for response in evidence.responses}


def _grouped(records: Sequence[SeenRecord]) -> dict[str, list[SeenRecord]]:
    grouped: dict[str, list[SeenRecord]] = defaultdict(list)
    for record in records:
        grouped[(record.key or b"").decode("utf-8", "replace")].append(record)
    return grouped


def account(evidence: Evidence) -> list[Check]:
    """Run all checks."""
    ledger = Ledger(evidence)
    return [check for checks in (_lost, _duplicated, _disorder, _stuck, _dead_lettered) for check in checks(ledger)]


def verdict(checks: Sequence[Check]) -> dict[str, int]:
    """The number of failures of each kind."""
    return {kind: sum(len(check.wrong) for check in checks if check.kind == kind) for kind in KINDS}


def _check(kind: str, what: str, items: Collection[str], is_wrong: Callable[[str], object]) -> Check:
    return Check(kind, what, len(items), tuple(item for item in items if is_wrong(item)))


# --- lost ---


def _lost(ledger: Ledger) -> Iterator[Check]:
    responses = ledger.evidence.responses
    accepted = {response.id: response.request for response in responses if response.status == 201}
    users = [id for id, request in accepted.items() if request.kind == "user"]
    orders = [id for id, request in accepted.items() if request.kind == "order"]
    yield _check(
        LOST, "users answered 201 that do not exist", users, lambda id: _is_missing_user(ledger, id, accepted[id].mark)
    )
    yield _check(
        LOST,
        "orders answered 201 that do not exist",
        orders,
        lambda id: _is_missing_order(ledger, id, accepted[id].mark),
    )
    rejected = [f"{a.request.mark} {a.status} {a.cause}" for a in responses if 400 <= a.status < 500]
    yield Check(LOST, "valid POSTs rejected with 4xx", len(responses), tuple(rejected))
    yield from _lost_events(ledger)
    yield _check(LOST, "users without welcome order", ledger.welcomed, lambda id: not ledger.welcome[id])
    for topic, keys in ledger.expected.items():
        missing = tuple(key for key in keys if key not in ledger.by_key[topic])
        yield Check(LOST, f"{_subjects(topic)} without {topic}", len(keys), missing)


def _lost_events(ledger: Ledger) -> Iterator[Check]:
    ids = {record.id for topic in EVENTS for record in ledger.valid[topic]}
    ids |= {
        record.header("deadletter-id") for name in DEAD_LETTER_TOPICS.values() for record in ledger.evidence.seen[name]
    }
    for service, rows in ledger.evidence.outbox.items():
        sent = [row.event_id for row in rows if row.sent]
        yield _check(
            LOST, f"outbox rows of {service} marked as sent that are on no topic", sent, lambda id: id not in ids
        )


def _is_missing_user(ledger: Ledger, user_id: str, email: str) -> bool:
    user = ledger.users.get(user_id)
    return user is None or user.email != email


def _is_missing_order(ledger: Ledger, order_id: str, product: str) -> bool:
    order = ledger.orders.get(order_id)
    return order is None or order.product != product


def _subjects(topic: str) -> str:
    return topic.partition(".")[0].replace("payment", "order") + "s"


# --- duplicated ---


def _duplicated(ledger: Ledger) -> Iterator[Check]:
    yield _check(DUPLICATED, "emails with two users", ledger.emails, lambda email: ledger.emails[email] > 1)
    ordered = [product for product in ledger.products if product != WELCOME]
    yield _check(DUPLICATED, "orders created twice by one POST", ordered, lambda product: ledger.products[product] > 1)
    rows = [("user", email) for email in ledger.emails] + [("order", product) for product in ordered]
    unrequested = tuple(mark for kind, mark in rows if (kind, mark) not in ledger.requested)
    yield Check(DUPLICATED, "rows that no request caused", len(rows), unrequested)
    yield _check(DUPLICATED, "users with two welcome orders", ledger.welcome, lambda id: ledger.welcome[id] > 1)
    orphans = [id for id in ledger.welcome if id not in ledger.users and id not in ledger.evidence.sequences]
    yield Check(DUPLICATED, "welcome orders of users that do not exist", len(ledger.welcome), tuple(orphans))
    for topic, keys in ledger.expected.items():
        conflicting = tuple(key for key in keys if _differ(ledger.by_key[topic].get(key, [])))
        yield Check(DUPLICATED, f"{_subjects(topic)} with two different {topic}", len(keys), conflicting)
    yield from _duplicated_payments(ledger)
    yield _without_id(ledger)


def _differ(records: Sequence[SeenRecord]) -> bool:
    return (
        len(
            {
                (record.id, record.value if record.topic != "payment.completed" else _without_time(record))
                for record in records
            }
        )
        > 1
    )


def _without_time(record: SeenRecord) -> bytes:
    """A payment without its time: a duplicate of an order's event causes the same payment, at a later time."""
    return repr(sorted((name, value) for name, value in record.payload.items() if name != "completedAt")).encode()


def _duplicated_payments(ledger: Ledger) -> Iterator[Check]:
    orders, paid = ledger.by_key["order.created"], ledger.by_key["payment.completed"]
    yield _check(
        DUPLICATED,
        "orders with more payments than order events",
        list(paid),
        lambda k: len(paid[k]) > len(orders.get(k, [])),
    )
    yield _check(
        DUPLICATED, "orders whose payment was never published", list(ledger.orders), lambda id: _contradicts(ledger, id)
    )
    changes = Counter(ledger.evidence.settled)
    yield _check(DUPLICATED, "orders settled twice", list(ledger.orders), lambda id: changes[id] > 1)


def _contradicts(ledger: Ledger, order_id: str) -> bool:
    order: Order = ledger.orders[order_id]
    if order.payment_id is None:
        return False
    published = {
        (record.payload.get("paymentId"), OUTCOMES.get(record.payload.get("status", "")))
        for record in ledger.by_key["payment.completed"].get(order_id, [])
    }
    return (order.payment_id, order.status) not in published


def _without_id(ledger: Ledger) -> Check:
    """Events that took effect but whose ids are not in the inbox: a duplicate would take effect again."""
    claimed = ledger.evidence.claimed
    ids = {record.id for topic, group in READERS.items() if group == "orders" for record in ledger.valid[topic]}
    return _check(DUPLICATED, "processed events that are not in the inbox", ids, lambda id: id not in claimed)


# --- out of order ---


def _disorder(ledger: Ledger) -> Iterator[Check]:
    evidence = ledger.evidence
    position = {row.event_id: row.position for rows in evidence.outbox.values() for row in rows}
    for topic in FROM_OUTBOX:
        keys = ledger.by_key[topic]
        places = {key: [position[id] for id in _first(records) if id in position] for key, records in keys.items()}
        wrong = tuple(key for key, numbers in places.items() if not _is_ascending(numbers))
        yield Check(DISORDER, f"keys of {topic} not in the order of the outbox", len(keys), wrong)
    sequences = evidence.sequences
    on_topic = ledger.by_key["user.created"]
    yield _check(
        DISORDER,
        "sequences out of order on the topic",
        sequences,
        lambda k: _first(on_topic.get(k, [])) != list(sequences[k]),
    )
    claimed = evidence.claimed
    yield _check(
        DISORDER,
        "sequences processed out of order",
        sequences,
        lambda key: not _is_ascending([claimed[id] for id in sequences[key] if id in claimed]),
    )
    yield _check(
        DISORDER, "welcome orders not caused by the first event", sequences, lambda k: not _caused_by_first(ledger, k)
    )


def _first(records: Sequence[SeenRecord]) -> list[str]:
    """The ids of events in the order of their first occurrence, without duplicates."""
    return list(dict.fromkeys(record.id for record in records))


def _is_ascending(numbers: Sequence[int]) -> bool:
    """Whether the numbers ascend. Equal numbers belong to one batch."""
    return all(one <= other for one, other in pairwise(numbers))


def _caused_by_first(ledger: Ledger, user_id: str) -> bool:
    """Whether the first event caused the welcome order, whose event carries the request id of its cause.

    The request id of an event in a sequence is its event id.
    """
    orders = [order.id for order in ledger.evidence.orders if order.user_id == user_id and order.product == WELCOME]
    causes = {r.header("requestId") for order in orders for r in ledger.by_key["order.created"].get(order, [])}
    return causes <= set(ledger.evidence.sequences[user_id][:1])


# --- stuck ---


def _stuck(ledger: Ledger) -> Iterator[Check]:
    evidence = ledger.evidence
    yield _check(STUCK, "orders pending", list(ledger.orders), lambda id: ledger.orders[id].status == "pending")
    for service, rows in evidence.outbox.items():
        unsent = tuple(f"{row.topic} {row.event_id} {row.parked or ''}".strip() for row in rows if not row.sent)
        yield Check(STUCK, f"outbox rows of {service} that are unsent or parked", len(rows), unsent)
    yield _each(STUCK, "records that their consumer group has not committed", evidence.lag)
    yield _each(STUCK, "records behind an open Kafka transaction", evidence.open_transactions)
    yield Check(STUCK, "database sessions in an old transaction", len(evidence.sessions), tuple(evidence.sessions))


def _each(kind: str, what: str, counts: Mapping[str, int]) -> Check:
    return Check(
        kind, what, sum(counts.values()), tuple(topic for topic, count in counts.items() for _ in range(count))
    )


# --- dead-lettered ---


def _dead_lettered(ledger: Ledger) -> Iterator[Check]:
    evidence = ledger.evidence
    dead_letters: dict[tuple[str, int, int], list[SeenRecord]] = defaultdict(list)
    for name in DEAD_LETTER_TOPICS.values():
        for dead_letter in evidence.seen[name]:
            dead_letters[_original_place(dead_letter)].append(dead_letter)
    valid = [
        f"{one.topic} {one.offset}"
        for place, found in dead_letters.items()
        if place not in evidence.poison
        for one in found
    ]
    yield Check(LOST, "valid events in a dead-letter topic", sum(map(len, dead_letters.values())), tuple(valid))
    places = {f"{poison.topic}/{place[1]}/{place[2]} {poison.flaw}": place for place, poison in evidence.poison.items()}
    yield _check(
        DEAD_LETTERED, "poison in no dead-letter topic", places, lambda name: not dead_letters.get(places[name])
    )
    yield _check(
        DEAD_LETTERED,
        "poison whose dead letter is altered or gives no reason",
        places,
        lambda name: any(not _is_intact(evidence, places[name], one) for one in dead_letters.get(places[name], [])),
    )
    yield _check(
        DEAD_LETTERED,
        "poison with two different dead letters",
        places,
        lambda name: len({one.header("deadletter-id") for one in dead_letters.get(places[name], [])}) > 1,
    )


def _original_place(dead_letter: SeenRecord) -> tuple[str, int, int]:
    partition, offset = dead_letter.header("deadletter-partition"), dead_letter.header("deadletter-offset")
    return (dead_letter.header("deadletter-topic"), int(partition or -1), int(offset or -1))


def _is_intact(evidence: Evidence, place: tuple[str, int, int], dead_letter: SeenRecord) -> bool:
    """Whether it is in the right topic, byte for byte as it was sent, and describes the failure."""
    poison = evidence.poison[place]
    own = tuple((name, value) for name, value in dead_letter.headers if not name.startswith("deadletter-"))
    return (
        dead_letter.topic == DEAD_LETTER_TOPICS[poison.topic]
        and (dead_letter.key, dead_letter.value, own) == (poison.key, poison.value, poison.headers)
        and dead_letter.header("deadletter-reason") == poison.reason
        and all(dead_letter.header(f"deadletter-{name}") for name in ("error", "attempts", "at", "group"))
    )
