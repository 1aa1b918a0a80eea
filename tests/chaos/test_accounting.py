"""The checks report nothing for a small consistent world, and each inconsistency of the same world."""

from dataclasses import replace

import pytest

from chaos.accounting import DEAD_LETTERED, DISORDER, DUPLICATED, LOST, STUCK, account, verdict
from chaos.evidence import Evidence, Order, OutboxRow, User
from chaos.load import Request, Response
from chaos.poison import Poison
from embedded.topics import DEAD_LETTER_TOPICS, EVENTS, SeenRecord

ANN, SEQUENCE = "ann", "sequence"
WELCOME, ORDER, SEQUENCE_ORDER = "welcome-of-ann", "order", "welcome-of-sequence"
PLACE = ("user.created", 5, 0)
POISON = Poison("user.created", "cut off", "unreadable", b"eve", b"{", (("ce_id", b"bad"),))


def seen(topic, offset, key, event_id, *, partition=0, request="", **payload):
    value = repr(sorted(payload.items())).encode()
    record = SeenRecord(
        topic, partition, offset, key.encode(), value, (("ce_id", event_id.encode()), ("requestId", request.encode()))
    )
    record.__dict__["payload"] = payload
    return record


def letter(**changes):
    said = {
        "topic": "user.created",
        "partition": "5",
        "offset": "0",
        "reason": "unreadable",
        "error": "no",
        "attempts": "1",
    }
    said |= {"at": "now", "group": "orders", "id": "letter"} | changes
    headers = (*POISON.headers, *((f"deadletter-{name}", value.encode()) for name, value in said.items()))
    return SeenRecord(DEAD_LETTER_TOPICS["user.created"], 0, 0, POISON.key, POISON.value, headers)


def payment(order, offset, *, payment_id=None, status="completed"):
    said = {"paymentId": payment_id or f"payment-of-{order}", "orderId": order, "status": status}
    return seen("payment.completed", offset, order, f"paid-{said['paymentId']}-{status}", **said)


def world():
    """Ann, who ordered once; a sequence of three events; one poison. All is well."""
    orders = {WELCOME: (ANN, "welcome-product"), ORDER: (ANN, "chaos-1"), SEQUENCE_ORDER: (SEQUENCE, "welcome-product")}
    events = ["s1", "s2", "s3"]
    causes = {SEQUENCE_ORDER: "s1"}
    return Evidence(
        responses=[
            Response(Request("user", "ann@example.org", 0, 0), 201, id=ANN),
            Response(Request("order", "chaos-1", 0, 0), 201, id=ORDER),
        ],
        users=[User(ANN, "ann@example.org")],
        orders=[Order(id, user, product, "paid", f"payment-of-{id}") for id, (user, product) in orders.items()],
        outbox={
            "users": [
                OutboxRow(number, event_id, "user.created", ANN if event_id == "u1" else SEQUENCE, True, None)
                for number, event_id in enumerate(["u1", *events])
            ],
            "orders": [
                OutboxRow(number, f"made-{id}", "order.created", id, True, None) for number, id in enumerate(orders)
            ]
            + [OutboxRow(9, "letter", DEAD_LETTER_TOPICS["user.created"], "eve", True, None)],
        },
        claimed={"u1": 1, "s1": 2, "s2": 2, "s3": 4, **{f"paid-payment-of-{id}-completed": 7 for id in orders}},
        settled=list(orders),
        seen={
            "user.created": [
                seen("user.created", 0, ANN, "u1"),
                *(seen("user.created", number, SEQUENCE, event, partition=1) for number, event in enumerate(events)),
                SeenRecord(*PLACE, POISON.key, POISON.value, POISON.headers),
            ],
            "order.created": [
                seen("order.created", number, id, f"made-{id}", request=causes.get(id, ""))
                for number, id in enumerate(orders)
            ],
            "payment.completed": [payment(id, number) for number, id in enumerate(orders)],
            **{name: [] for name in DEAD_LETTER_TOPICS.values()},
            DEAD_LETTER_TOPICS["user.created"]: [letter()],
        },
        poison={PLACE: POISON},
        sequences={SEQUENCE: events},
    )


def wrong(evidence):
    return {(check.kind, check.what) for check in account(evidence) if check.wrong}


def topic(evidence, name, records):
    return replace(evidence, seen={**evidence.seen, name: records})


def test_a_consistent_world_has_no_failures():
    assert wrong(world()) == set()
    assert set(verdict(account(world())).values()) == {0}


def test_a_duplicate_of_an_event_is_not_a_failure():
    sound = world()
    user, *sequence, poison = sound.seen["user.created"]
    again = [user, *sequence, poison, replace(user, offset=7), replace(sequence[0], offset=8)]

    assert wrong(topic(sound, "user.created", again)) == set()


def without(evidence, field, number):
    return replace(evidence, **{field: [row for index, row in enumerate(getattr(evidence, field)) if index != number]})


def changed(evidence, field, number, **changes):
    rows = list(getattr(evidence, field))
    rows[number] = replace(rows[number], **changes)
    return replace(evidence, **{field: rows})


def outbox(evidence, service, number, **changes):
    rows = list(evidence.outbox[service])
    rows[number] = replace(rows[number], **changes)
    return replace(evidence, outbox={**evidence.outbox, service: rows})


def without_record(evidence, name, number):
    return topic(evidence, name, [record for index, record in enumerate(evidence.seen[name]) if index != number])


def more(evidence, name, *records):
    return topic(evidence, name, [*evidence.seen[name], *records])


def swapped(evidence):
    user, first, second, third, poison = evidence.seen["user.created"]
    return topic(evidence, "user.created", [user, second, first, third, poison])


def two_events_of_an_order(evidence):
    """The second one first."""
    rows = [*evidence.outbox["orders"], OutboxRow(20, "second", "order.created", ORDER, True, None)]
    first, second = evidence.seen["order.created"][1], seen("order.created", 1, ORDER, "second")
    others = [record for record in evidence.seen["order.created"] if record is not first]
    changed = replace(evidence, outbox={**evidence.outbox, "orders": rows})
    return topic(changed, "order.created", [second, *others, first])


BROKEN = {
    "a user is gone": (lambda w: without(w, "users", 0), LOST, "users answered 201 that do not exist"),
    "an order is gone": (lambda w: without(w, "orders", 1), LOST, "orders answered 201 that do not exist"),
    "a good POST is refused": (
        lambda w: changed(w, "responses", 0, status=409, id=""),
        LOST,
        "valid POSTs rejected with 4xx",
    ),
    "no welcome": (lambda w: without(w, "orders", 0), LOST, "users without welcome order"),
    "a user's event is gone": (lambda w: without_record(w, "user.created", 0), LOST, "users without user.created"),
    "an order's event is gone": (lambda w: without_record(w, "order.created", 1), LOST, "orders without order.created"),
    "a payment is gone": (
        lambda w: without_record(w, "payment.completed", 1),
        LOST,
        "orders without payment.completed",
    ),
    "marked and not sent": (
        lambda w: without_record(w, "user.created", 2),
        LOST,
        "outbox rows of users marked as sent that are on no topic",
    ),
    "a good event is dead-lettered": (
        lambda w: more(w, DEAD_LETTER_TOPICS["user.created"], letter(offset="77")),
        LOST,
        "valid events in a dead-letter topic",
    ),
    "two users": (
        lambda w: replace(w, users=[*w.users, User("other", "ANN@example.org")]),
        DUPLICATED,
        "emails with two users",
    ),
    "two orders": (
        lambda w: replace(w, orders=[*w.orders, replace(w.orders[1], id="other")]),
        DUPLICATED,
        "orders created twice by one POST",
    ),
    "nobody asked": (lambda w: changed(w, "orders", 1, product="chaos-9"), DUPLICATED, "rows that no request caused"),
    "two welcome orders": (
        lambda w: replace(w, orders=[*w.orders, replace(w.orders[0], id="other")]),
        DUPLICATED,
        "users with two welcome orders",
    ),
    "a stranger's welcome order": (
        lambda w: changed(w, "orders", 0, user_id="nobody"),
        DUPLICATED,
        "welcome orders of users that do not exist",
    ),
    "an order's events against the outbox": (
        two_events_of_an_order,
        DISORDER,
        "keys of order.created not in the order of the outbox",
    ),
    "two events of one user": (
        lambda w: more(w, "user.created", seen("user.created", 9, ANN, "another")),
        DUPLICATED,
        "users with two different user.created",
    ),
    "two events of one order": (
        lambda w: more(w, "order.created", seen("order.created", 9, ORDER, "another")),
        DUPLICATED,
        "orders with two different order.created",
    ),
    "two payments": (
        lambda w: more(w, "payment.completed", payment(ORDER, 9, payment_id="another")),
        DUPLICATED,
        "orders with two different payment.completed",
    ),
    "paid once too often": (
        lambda w: more(w, "payment.completed", payment(ORDER, 9)),
        DUPLICATED,
        "orders with more payments than order events",
    ),
    "another's payment": (
        lambda w: changed(w, "orders", 1, status="failed"),
        DUPLICATED,
        "orders whose payment was never published",
    ),
    "settled twice": (lambda w: replace(w, settled=[*w.settled, ORDER]), DUPLICATED, "orders settled twice"),
    "no inbox": (lambda w: replace(w, claimed={}), DUPLICATED, "processed events that are not in the inbox"),
    "sent out of order": (swapped, DISORDER, "sequences out of order on the topic"),
    "against the outbox": (swapped, DISORDER, "keys of user.created not in the order of the outbox"),
    "handled out of order": (
        lambda w: replace(w, claimed={**w.claimed, "s3": 1}),
        DISORDER,
        "sequences processed out of order",
    ),
    "caused by a later one": (
        lambda w: topic(
            w,
            "order.created",
            [
                *w.seen["order.created"][:2],
                seen("order.created", 2, SEQUENCE_ORDER, f"made-{SEQUENCE_ORDER}", request="s2"),
            ],
        ),
        DISORDER,
        "welcome orders not caused by the first event",
    ),
    "pending": (lambda w: changed(w, "orders", 1, status="pending", payment_id=None), STUCK, "orders pending"),
    "unsent": (lambda w: outbox(w, "orders", 0, sent=False), STUCK, "outbox rows of orders that are unsent or parked"),
    "parked": (
        lambda w: outbox(w, "users", 0, sent=False, parked="too large"),
        STUCK,
        "outbox rows of users that are unsent or parked",
    ),
    "lag": (
        lambda w: replace(w, lag={"user.created": 2}),
        STUCK,
        "records that their consumer group has not committed",
    ),
    "an open Kafka transaction": (
        lambda w: replace(w, open_transactions={"payment.completed": 1}),
        STUCK,
        "records behind an open Kafka transaction",
    ),
    "an open database transaction": (
        lambda w: replace(w, sessions=["orders: idle in transaction"]),
        STUCK,
        "database sessions in an old transaction",
    ),
    "poison is gone": (
        lambda w: topic(w, DEAD_LETTER_TOPICS["user.created"], []),
        DEAD_LETTERED,
        "poison in no dead-letter topic",
    ),
    "no reason": (
        lambda w: topic(w, DEAD_LETTER_TOPICS["user.created"], [letter(reason="")]),
        DEAD_LETTERED,
        "poison whose dead letter is altered or gives no reason",
    ),
    "altered": (
        lambda w: topic(w, DEAD_LETTER_TOPICS["user.created"], [replace(letter(), value=b"{}")]),
        DEAD_LETTERED,
        "poison whose dead letter is altered or gives no reason",
    ),
    "died twice": (
        lambda w: topic(w, DEAD_LETTER_TOPICS["user.created"], [letter(), letter(id="another")]),
        DEAD_LETTERED,
        "poison with two different dead letters",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_failures_are_found(name):
    breaking, kind, what = BROKEN[name]

    assert (kind, what) in wrong(breaking(world()))


def test_every_check_can_fail():
    assert {(check.kind, check.what) for check in account(world())} - {
        (kind, what) for breaking, _, _ in BROKEN.values() for kind, what in wrong(breaking(world()))
    } == set()


def test_every_topic_is_examined():
    assert set(world().seen) == {*EVENTS, *DEAD_LETTER_TOPICS.values()}
