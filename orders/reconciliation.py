"""What orders misses: orders that nobody has paid for, and welcome orders that never came; each with where it was last seen.

It asks its own tables and the events. Who pays is known by the name of a consumer group only.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from django.conf import settings
from django.db.models import QuerySet

from chassis.events import Unreadable, unseal
from chassis.kafka import names, topic_reader
from chassis.kafka.records import Record
from chassis.messaging.models import OutboxEvent
from chassis.reconciliation.reconciliation import (
    CLOCKS,
    HANDLE,
    REPUBLISH,
    WAIT,
    Finding,
    Period,
    death,
    has_passed,
    is_dead_lettered,
    moment,
    never_arrived,
    place,
    redrive,
    rows,
)
from chassis.reconciliation.republish import reprocess
from orders import services
from orders.events import OrderCreated, PaymentCompleted, UserCreated
from orders.models import Order

PAYER = "payments"
"""The service whose consumer group answers an `order.created` with a `payment.completed`."""

CHUNK = 1_000


def find(period: Period) -> Iterator[Finding]:
    """All that is missing. Orders are looked at however old they are, users only from `period.since` on."""
    yield from unpaid_orders(period)
    yield from missing_welcome_orders(period)


# --- orders that are pending for too long ---


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the events of some orders."""

    records: dict[tuple[str, bytes], Record]
    rows: dict[str, OutboxEvent]
    paid_up_to: dict[int, int]
    closed_up_to: dict[int, int]

    def on(self, topic: str, order: Order) -> Record | None:
        """The last record of an order on a topic."""
        return self.records.get((topic, str(order.id).encode()))

    def death(self, record: Record, service: str, order: Order) -> Record | None:
        """The dead letter of this record, unless it was redriven since."""
        letter = self.on(names.dead_letter_topic(record.topic, service), order)
        return letter if letter and letter.timestamp_ms >= record.timestamp_ms else None


def unpaid_orders(period: Period) -> Iterator[Finding]:
    """Orders that are pending though they were placed before `period.until`."""
    waiting = list(_pending(period).order_by("created_at"))
    if not waiting:
        return
    evidence = _evidence(waiting)
    still = set(_pending(period).values_list("id", flat=True))
    for order in waiting:
        if order.id in still:  # and was not closed while the topics were read
            yield _explain_order(order, evidence)


def _pending(period: Period) -> QuerySet[Order]:
    return Order.objects.filter(status=Order.Status.PENDING, created_at__lt=period.until)


def _evidence(orders: list[Order]) -> Evidence:
    # The topics last: whatever was sent, or answered, before the other questions were asked is on them by then.
    known = rows(map(services.created_id, orders))
    paid_up_to = topic_reader.positions(names.group(PAYER), names.topic(OrderCreated))
    closed_up_to = topic_reader.positions(names.group(), names.topic(PaymentCompleted))
    topics = [
        names.topic(OrderCreated),
        names.topic(PaymentCompleted),
        names.dead_letter_topic(names.topic(OrderCreated), PAYER),
        names.dead_letter_topic(names.topic(PaymentCompleted)),
    ]
    keys = {str(order.id).encode() for order in orders}
    records = topic_reader.last(topics, keys.__contains__, orders[0].created_at - CLOCKS)
    return Evidence(records, known, paid_up_to, closed_up_to)


def _explain_order(order: Order, evidence: Evidence) -> Finding:
    finding = partial(Finding, f"payment of order {order.id}", order.created_at)
    if payment := evidence.on(names.topic(PaymentCompleted), order):
        letter = evidence.death(payment, settings.SERVICE_NAME, order)
        return _explain_unheard(finding, payment, letter, evidence.closed_up_to)
    republish = partial(services.republish_created, order_id=order.id)
    if created := evidence.on(names.topic(OrderCreated), order):
        if letter := evidence.death(created, PAYER, order):
            return finding(f"{created.topic} was {death(letter)}", redrive(letter))
        if not has_passed(evidence.paid_up_to, created):
            return finding(f"{place(created)} is there, and {PAYER} has not come to it yet", WAIT)
        passed = f"{place(created)} is there, and {PAYER} went past it without a {PaymentCompleted.topic}"
        return finding(passed, REPUBLISH, republish)
    sent = never_arrived(OrderCreated.topic, evidence.rows.get(services.created_id(order)))
    return finding(sent.where, sent.remedy, republish if sent.is_lost else None)


# --- welcome orders that never came ---


def missing_welcome_orders(period: Period) -> Iterator[Finding]:
    """Users of whom an event was published in the period, and who have no welcome order."""
    passed = topic_reader.positions(names.group(), names.topic(UserCreated))
    missing = [one for chunk in _chunks(_joined(period)) for one in _without_welcome(chunk)]  # few, however many joined
    if not missing:
        return
    keys = {user_id.encode() for user_id, _ in missing}
    letters = topic_reader.last(
        [names.dead_letter_topic(names.topic(UserCreated))], keys.__contains__, period.since - CLOCKS
    )
    for user_id, record in _without_welcome(missing):  # nor came while the topics were read
        yield _explain_user(user_id, record, letters, passed)


def _joined(period: Period) -> Iterator[tuple[str, Record]]:
    """The users that were published in the period, with their events. What cannot be read is a dead letter, and nobody."""
    until = period.until.timestamp() * 1000
    for record in topic_reader.scan([names.topic(UserCreated)], period.since):
        if record.timestamp_ms < until:
            try:
                user = unseal(record, UserCreated).event
            except Unreadable:
                continue
            yield user.user_id, record


def _without_welcome(joined: list[tuple[str, Record]]) -> list[tuple[str, Record]]:
    users = {user_id for user_id, _ in joined}
    have = set(Order.objects.filter(is_welcome=True, user_id__in=users).values_list("user_id", flat=True))
    return [(user_id, record) for user_id, record in joined if user_id not in have]


def _explain_user(
    user_id: str, record: Record, letters: dict[tuple[str, bytes], Record], passed: dict[int, int]
) -> Finding:
    finding = partial(Finding, f"welcome order of user {user_id}", moment(record))
    letter = letters.get((names.dead_letter_topic(names.topic(UserCreated)), user_id.encode()))
    is_its = letter is not None and letter.timestamp_ms >= record.timestamp_ms
    return _explain_unheard(finding, record, letter if is_its else None, passed)


# --- an event that came here, and had no effect ---


def _explain_unheard(
    finding: Callable[..., Finding], record: Record, letter: Record | None, passed: dict[int, int]
) -> Finding:
    """Say why an event on its topic had no effect here: it died, or is still to come; or it was lost, here."""
    if letter:
        return finding(f"{record.topic} was {death(letter)}", redrive(letter))
    if not has_passed(passed, record):
        return finding(f"{place(record)} is there, and {settings.SERVICE_NAME} has not come to it yet", WAIT)
    if is_dead_lettered(record):
        return finding(f"{place(record)} was dead-lettered; its letter waits in the outbox", WAIT)
    lost = f"{place(record)} is there, and {settings.SERVICE_NAME} went past it without an effect"
    return finding(lost, HANDLE, partial(_handle, record))


def _handle(record: Record) -> bool:
    reprocess(record)
    return True


def _chunks(joined: Iterable[tuple[str, Record]]) -> Iterator[list[tuple[str, Record]]]:
    stream = iter(joined)
    while chunk := list(islice(stream, CHUNK)):
        yield chunk
