"""The account: from the evidence alone, what was lost, doubled, out of order, stuck or wrongly dead-lettered.

Pure functions of the evidence. Each check looks at a number of things and names those that are not as promised.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chaos.evidence import Evidence, Order
from embedded.topics import DEAD_LETTER_TOPICS, EVENTS, READERS, SeenRecord

LOST, DOUBLED, DISORDER, STUCK, DEAD_LETTERED = "lost", "duplicated", "out of order", "stuck", "dead-lettered"
KINDS = (LOST, DOUBLED, DISORDER, STUCK, DEAD_LETTERED)

FROM_OUTBOX = ("user.created", "order.created")
"""Topics whose order the outboxes tell; a payment is one event of one order, and comes from none."""

WELCOME = "welcome-product"
OUTCOMES = {"completed": "paid", "failed": "failed"}


@dataclass(frozen=True)
class Check:
    """One promise: how many things were looked at, and which of them break it."""

    kind: str
    what: str
    looked_at: int
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.what}: {len(self.wrong)} of {self.looked_at}, for example {', '.join(self.wrong[:3])}"
        )


class Ledger:
    """The evidence, sorted so that questions are easily answered."""

    def __init__(self, evidence: Evidence) -> None:
        """Sort it."""
        self.evidence = evidence
        self.good = {topic: [r for r in evidence.seen[topic] if r.place not in evidence.poison] for topic in EVENTS}
        self.by_key = {topic: _grouped(records) for topic, records in self.good.items()}
        self.users = {user.id: user for user in evidence.users}
        self.orders = {order.id: order for order in evidence.orders}
        # Which keys must have an event on which topic, and no two.
        self.owed = {
            "user.created": list(self.users),
            "order.created": list(self.orders),
            "payment.completed": list(self.orders),
        }
        self.welcome = Counter(order.user_id for order in evidence.orders if order.product == WELCOME)
        self.welcomed = [*self.users, *evidence.sequences]
        self.products = Counter(order.product for order in evidence.orders)
        self.emails = Counter(user.email.lower() for user in evidence.users)
        self.asked = {(answer.wish.kind, answer.wish.mark) for answer in evidence.answers}


def _grouped(records: Sequence[SeenRecord]) -> dict[str, list[SeenRecord]]:
    grouped: dict[str, list[SeenRecord]] = defaultdict(list)
    for record in records:
        grouped[(record.key or b"").decode("utf-8", "replace")].append(record)
    return grouped


def account(evidence: Evidence) -> list[Check]:
    """All checks, whatever they find."""
    ledger = Ledger(evidence)
    return [check for checks in (_lost, _doubled, _disorder, _stuck, _dead_lettered) for check in checks(ledger)]


def verdict(checks: Sequence[Check]) -> dict[str, int]:
    """How many things of each kind are wrong."""
    return {kind: sum(len(check.wrong) for check in checks if check.kind == kind) for kind in KINDS}


def _check(kind: str, what: str, things: Collection[str], is_wrong: Callable[[str], object]) -> Check:
    return Check(kind, what, len(things), tuple(thing for thing in things if is_wrong(thing)))


# --- lost ---


def _lost(ledger: Ledger) -> Iterator[Check]:
    answers = ledger.evidence.answers
    taken = {answer.id: answer.wish for answer in answers if answer.status == 201}
    users = [id for id, wish in taken.items() if wish.kind == "user"]
    orders = [id for id, wish in taken.items() if wish.kind == "order"]
    yield _check(
        LOST, "users answered 201 that are not there", users, lambda id: _other_user(ledger, id, taken[id].mark)
    )
    yield _check(LOST, "orders answered 201 that are not there", orders, lambda id: _other(ledger, id, taken[id].mark))
    refused = [f"{a.wish.mark} {a.status} {a.cause}" for a in answers if 400 <= a.status < 500]
    yield Check(LOST, "good POSTs refused with 4xx", len(answers), tuple(refused))
    yield from _lost_events(ledger)
    yield _check(LOST, "users without welcome order", ledger.welcomed, lambda id: not ledger.welcome[id])
    for topic, keys in ledger.owed.items():
        missing = tuple(key for key in keys if key not in ledger.by_key[topic])
        yield Check(LOST, f"{_what(topic)} without {topic}", len(keys), missing)


def _lost_events(ledger: Ledger) -> Iterator[Check]:
    ids = {record.id for topic in EVENTS for record in ledger.good[topic]}
    ids |= {
        record.header("deadletter-id") for name in DEAD_LETTER_TOPICS.values() for record in ledger.evidence.seen[name]
    }
    for service, rows in ledger.evidence.outbox.items():
        sent = [row.event_id for row in rows if row.sent]
        yield _check(
            LOST, f"{service}' outbox rows marked as sent that are on no topic", sent, lambda id: id not in ids
        )


def _other_user(ledger: Ledger, user_id: str, email: str) -> bool:
    user = ledger.users.get(user_id)
    return user is None or user.email != email


def _other(ledger: Ledger, order_id: str, product: str) -> bool:
    order = ledger.orders.get(order_id)
    return order is None or order.product != product


def _what(topic: str) -> str:
    return topic.partition(".")[0].replace("payment", "order") + "s"


# --- doubled ---


def _doubled(ledger: Ledger) -> Iterator[Check]:
    yield _check(DOUBLED, "emails with two users", ledger.emails, lambda email: ledger.emails[email] > 1)
    ordered = [product for product in ledger.products if product != WELCOME]
    yield _check(DOUBLED, "orders made twice by one POST", ordered, lambda product: ledger.products[product] > 1)
    strangers = [("user", email) for email in ledger.emails] + [("order", product) for product in ordered]
    unasked = tuple(mark for kind, mark in strangers if (kind, mark) not in ledger.asked)
    yield Check(DOUBLED, "rows that nobody asked for", len(strangers), unasked)
    yield _check(DOUBLED, "users with two welcome orders", ledger.welcome, lambda id: ledger.welcome[id] > 1)
    nobody = [id for id in ledger.welcome if id not in ledger.users and id not in ledger.evidence.sequences]
    yield Check(DOUBLED, "welcome orders of users who are not there", len(ledger.welcome), tuple(nobody))
    for topic, keys in ledger.owed.items():
        torn = tuple(key for key in keys if _differ(ledger.by_key[topic].get(key, [])))
        yield Check(DOUBLED, f"{_what(topic)} with two different {topic}", len(keys), torn)
    yield from _doubled_payments(ledger)
    yield _without_id(ledger)


def _differ(records: Sequence[SeenRecord]) -> bool:
    return (
        len({(record.id, record.value if record.topic != "payment.completed" else _said(record)) for record in records})
        > 1
    )


def _said(record: SeenRecord) -> bytes:
    """A payment but for its time: when an order's event came twice it is decided twice, and is the same payment."""
    return repr(sorted((name, value) for name, value in record.payload.items() if name != "completedAt")).encode()


def _doubled_payments(ledger: Ledger) -> Iterator[Check]:
    orders, paid = ledger.by_key["order.created"], ledger.by_key["payment.completed"]
    yield _check(
        DOUBLED,
        "orders with more payments than order events",
        list(paid),
        lambda k: len(paid[k]) > len(orders.get(k, [])),
    )
    yield _check(DOUBLED, "orders whose payment is another's", list(ledger.orders), lambda id: _contradicts(ledger, id))
    changes = Counter(ledger.evidence.settled)
    yield _check(DOUBLED, "orders settled twice", list(ledger.orders), lambda id: changes[id] > 1)


def _contradicts(ledger: Ledger, order_id: str) -> bool:
    order: Order = ledger.orders[order_id]
    if order.payment_id is None:
        return False
    said = {
        (record.payload.get("paymentId"), OUTCOMES.get(record.payload.get("status", "")))
        for record in ledger.by_key["payment.completed"].get(order_id, [])
    }
    return (order.payment_id, order.status) not in said


def _without_id(ledger: Ledger) -> Check:
    """What a repeat would do again: an event whose effects are there and whose id is not."""
    claimed = ledger.evidence.claimed
    ids = {record.id for topic, group in READERS.items() if group == "orders" for record in ledger.good[topic]}
    return _check(DOUBLED, "handled events that the inbox does not know", ids, lambda id: id not in claimed)


# --- out of order ---


def _disorder(ledger: Ledger) -> Iterator[Check]:
    evidence = ledger.evidence
    position = {row.event_id: row.position for rows in evidence.outbox.values() for row in rows}
    for topic in FROM_OUTBOX:
        keys = ledger.by_key[topic]
        places = {key: [position[id] for id in _first(records) if id in position] for key, records in keys.items()}
        wrong = tuple(key for key, numbers in places.items() if not _rising(numbers))
        yield Check(DISORDER, f"keys of {topic} not in the outbox's order", len(keys), wrong)
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
        "sequences handled out of order",
        sequences,
        lambda key: not _rising([claimed[id] for id in sequences[key] if id in claimed]),
    )
    yield _check(
        DISORDER, "welcome orders not caused by the first event", sequences, lambda k: not _caused_by_first(ledger, k)
    )


def _first(records: Sequence[SeenRecord]) -> list[str]:
    """The ids of events in the order in which each came first; repeats come later, and are known by their id."""
    return list(dict.fromkeys(record.id for record in records))


def _rising(numbers: Sequence[int]) -> bool:
    """Equal ones are of one batch."""
    return all(one <= other for one, other in pairwise(numbers))


def _caused_by_first(ledger: Ledger, user_id: str) -> bool:
    """The welcome order's event carries the request of the event that caused it; a sequence's is its event's id."""
    orders = [order.id for order in ledger.evidence.orders if order.user_id == user_id and order.product == WELCOME]
    causes = {r.header("requestId") for order in orders for r in ledger.by_key["order.created"].get(order, [])}
    return causes <= set(ledger.evidence.sequences[user_id][:1])


# --- stuck ---


def _stuck(ledger: Ledger) -> Iterator[Check]:
    evidence = ledger.evidence
    yield _check(STUCK, "orders pending", list(ledger.orders), lambda id: ledger.orders[id].status == "pending")
    for service, rows in evidence.outbox.items():
        unsent = tuple(f"{row.topic} {row.event_id} {row.parked or ''}".strip() for row in rows if not row.sent)
        yield Check(STUCK, f"{service}' outbox rows not sent, or parked", len(rows), unsent)
    yield _each(STUCK, "records that their group has not committed", evidence.lag)
    yield _each(STUCK, "records behind an open Kafka transaction", evidence.open_transactions)
    yield Check(STUCK, "database sessions in an old transaction", len(evidence.sessions), tuple(evidence.sessions))


def _each(kind: str, what: str, counts: Mapping[str, int]) -> Check:
    return Check(
        kind, what, sum(counts.values()), tuple(topic for topic, count in counts.items() for _ in range(count))
    )


# --- dead-lettered ---


def _dead_lettered(ledger: Ledger) -> Iterator[Check]:
    evidence = ledger.evidence
    letters: dict[tuple[str, int, int], list[SeenRecord]] = defaultdict(list)
    for name in DEAD_LETTER_TOPICS.values():
        for letter in evidence.seen[name]:
            letters[_died_at(letter)].append(letter)
    good = [
        f"{letter.topic} {letter.offset}"
        for place, found in letters.items()
        if place not in evidence.poison
        for letter in found
    ]
    yield Check(LOST, "good events in a dead-letter topic", sum(map(len, letters.values())), tuple(good))
    places = {f"{poison.topic}/{place[1]}/{place[2]} {poison.flaw}": place for place, poison in evidence.poison.items()}
    yield _check(DEAD_LETTERED, "poison in no dead-letter topic", places, lambda name: not letters.get(places[name]))
    yield _check(
        DEAD_LETTERED,
        "poison whose dead letter is altered or gives no reason",
        places,
        lambda name: any(not _is_whole(evidence, places[name], letter) for letter in letters.get(places[name], [])),
    )
    yield _check(
        DEAD_LETTERED,
        "poison with two different dead letters",
        places,
        lambda name: len({letter.header("deadletter-id") for letter in letters.get(places[name], [])}) > 1,
    )


def _died_at(letter: SeenRecord) -> tuple[str, int, int]:
    partition, offset = letter.header("deadletter-partition"), letter.header("deadletter-offset")
    return (letter.header("deadletter-topic"), int(partition or -1), int(offset or -1))


def _is_whole(evidence: Evidence, place: tuple[str, int, int], letter: SeenRecord) -> bool:
    """In the right topic, byte for byte as it was sent, and with what a person needs to understand it."""
    poison = evidence.poison[place]
    own = tuple((name, value) for name, value in letter.headers if not name.startswith("deadletter-"))
    return (
        letter.topic == DEAD_LETTER_TOPICS[poison.topic]
        and (letter.key, letter.value, own) == (poison.key, poison.value, poison.headers)
        and letter.header("deadletter-reason") == poison.reason
        and all(letter.header(f"deadletter-{name}") for name in ("error", "attempts", "at", "group"))
    )
