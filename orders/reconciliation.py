"""Reconciliation of orders: finds unpaid orders and missing welcome orders, and states where each was last seen.

It reads its own tables and the events. All it knows of the service that pays is the name of its consumer group.
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
    REPROCESS,
    REPUBLISH,
    WAIT,
    Finding,
    Period,
    dead_letter_row,
    describe_dead_letter,
    has_passed,
    moment,
    never_arrived,
    not_reached,
    place,
    redrive,
    rows,
)
from chassis.reconciliation.republish import reprocess
from orders import services
from orders.events import OrderCreated, PaymentCompleted, UserCreated
from orders.models import Order

PAYER = "payments"
"""The service whose consumer group responds to `order.created` with `payment.completed`."""

CHUNK = 1_000


def find(period: Period) -> Iterator[Finding]:
    """Everything that is missing. Orders are checked regardless of their age, users from `period.since` on."""
    yield from unpaid_orders(period)
    yield from missing_welcome_orders(period)


# --- orders that have been pending for too long ---


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the outbox and the topics contain about some orders, and the committed offsets of both consumer groups."""

    records: dict[tuple[str, bytes], Record]
    rows: dict[str, OutboxEvent]
    paid_up_to: dict[int, int]
    closed_up_to: dict[int, int]

    def on(self, topic: str, order: Order) -> Record | None:
        """The last record of an order in a topic."""
        return self.records.get((topic, str(order.id).encode()))

    def dead_letter(self, record: Record, service: str, order: Order) -> Record | None:
        """The dead letter of this record, unless it has been redriven since."""
        found = self.on(names.dead_letter_topic(record.topic, service), order)
        return found if found and found.timestamp_ms >= record.timestamp_ms else None


def unpaid_orders(period: Period) -> Iterator[Finding]:
    """Orders created before `period.until` that are still pending."""
    pending = list(_pending(period).order_by("created_at"))
    if not pending:
        return
    evidence = _evidence(pending)
    still_pending = set(_pending(period).values_list("id", flat=True))
    for order in pending:
        if order.id in still_pending:  # not closed while the topics were read
            yield _explain_order(order, evidence)


def _pending(period: Period) -> QuerySet[Order]:
    return Order.objects.filter(status=Order.Status.PENDING, created_at__lt=period.until)


def _evidence(orders: list[Order]) -> Evidence:
    # Read the topics last: everything sent, or answered, before the other reads is on them by then.
    outbox_rows = rows(map(services.created_id, orders))
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
    return Evidence(records, outbox_rows, paid_up_to, closed_up_to)


def _explain_order(order: Order, evidence: Evidence) -> Finding:
    finding = partial(Finding, f"payment of order {order.id}", order.created_at)
    if payment := evidence.on(names.topic(PaymentCompleted), order):
        dead_letter = evidence.dead_letter(payment, settings.SERVICE_NAME, order)
        return _explain_without_effect(finding, payment, dead_letter, evidence.closed_up_to)
    republish = partial(services.republish_created, order_id=order.id)
    if created := evidence.on(names.topic(OrderCreated), order):
        if dead_letter := evidence.dead_letter(created, PAYER, order):
            return finding(f"{created.topic} was {describe_dead_letter(dead_letter)}", redrive(dead_letter))
        if not has_passed(evidence.paid_up_to, created):
            return finding(*not_reached(created, PAYER, evidence.paid_up_to))
        passed = f"{place(created)} exists, and {PAYER} has passed it without publishing {PaymentCompleted.topic}"
        return finding(passed, REPUBLISH, republish)
    sent = never_arrived(OrderCreated.topic, evidence.rows.get(services.created_id(order)))
    return finding(sent.where, sent.remedy, republish if sent.is_lost else None)


# --- missing welcome orders ---


def missing_welcome_orders(period: Period) -> Iterator[Finding]:
    """Users whose event was published in the period and who have no welcome order."""
    passed = topic_reader.positions(names.group(), names.topic(UserCreated))
    chunks = _chunks(_published_users(period))
    missing = [one for chunk in chunks for one in _without_welcome(chunk)]  # few, however many users there are
    if not missing:
        return
    keys = {user_id.encode() for user_id, _ in missing}
    dead_letters = topic_reader.last(
        [names.dead_letter_topic(names.topic(UserCreated))], keys.__contains__, period.since - CLOCKS
    )
    for user_id, record in _without_welcome(missing):  # not created while the topics were read
        yield _explain_user(user_id, record, dead_letters, passed)


def _published_users(period: Period) -> Iterator[tuple[str, Record]]:
    """The users whose events were published in the period, each with the event. Unreadable records are skipped."""
    until = period.until.timestamp() * 1000
    for record in topic_reader.scan([names.topic(UserCreated)], period.since):
        if record.timestamp_ms < until:
            try:
                user = unseal(record, UserCreated).event
            except Unreadable:
                continue
            yield user.user_id, record


def _without_welcome(users: list[tuple[str, Record]]) -> list[tuple[str, Record]]:
    ids = {user_id for user_id, _ in users}
    welcomed = set(Order.objects.filter(is_welcome=True, user_id__in=ids).values_list("user_id", flat=True))
    return [(user_id, record) for user_id, record in users if user_id not in welcomed]


def _explain_user(
    user_id: str, record: Record, dead_letters: dict[tuple[str, bytes], Record], passed: dict[int, int]
) -> Finding:
    finding = partial(Finding, f"welcome order of user {user_id}", moment(record))
    dead_letter = dead_letters.get((names.dead_letter_topic(names.topic(UserCreated)), user_id.encode()))
    if dead_letter and dead_letter.timestamp_ms < record.timestamp_ms:  # it has been redriven since
        dead_letter = None
    return _explain_without_effect(finding, record, dead_letter, passed)


# --- events that arrived and had no effect ---


def _explain_without_effect(
    finding: Callable[..., Finding], record: Record, dead_letter: Record | None, passed: dict[int, int]
) -> Finding:
    """Explain why an event on its topic had no effect here: it was dead-lettered, not processed yet, or lost."""
    if dead_letter:
        return finding(f"{record.topic} was {describe_dead_letter(dead_letter)}", redrive(dead_letter))
    if not has_passed(passed, record):
        return finding(*not_reached(record, settings.SERVICE_NAME, passed))
    if row := dead_letter_row(record):
        sent = never_arrived(row.topic, row)
        return finding(f"{place(record)} was dead-lettered; {sent.where}", WAIT if sent.is_lost else sent.remedy)
    lost = f"{place(record)} exists, and {settings.SERVICE_NAME} has passed it without effect"
    return finding(lost, REPROCESS, partial(_reprocess, record))


def _reprocess(record: Record) -> bool:
    reprocess(record)
    return True


def _chunks(users: Iterable[tuple[str, Record]]) -> Iterator[list[tuple[str, Record]]]:
    stream = iter(users)
    while chunk := list(islice(stream, CHUNK)):
        yield chunk
