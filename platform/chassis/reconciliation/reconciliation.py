"""Building blocks for a service's reconciliation.py, which finds events and effects that are missing.

`manage.py reconcile` calls `find` of the running service's reconciliation.py. It reads the service's own tables and the
events on Kafka, never another service's database.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from shlex import quote

from django.conf import settings

from chassis.deadletters.record import FailedRecord
from chassis.kafka import names
from chassis.kafka.records import Record
from chassis.messaging.models import OutboxEvent
from chassis.outbox import parked

CLOCKS = timedelta(minutes=5)
"""The maximum difference between the clocks of machines. The search for an event starts this long before its change."""


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


@dataclass(frozen=True, slots=True)
class Period:
    """The changes to check: made at `since` or later, and before `until`, so that their events should have been processed."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is missing: what, since when, where it was last seen, and how to repair it."""

    what: str
    since: datetime
    where: str
    remedy: str
    repair: Callable[[], bool] | None = None
    """Called by `--republish`; returns False if there is nothing to do any more. None: republishing would not help."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Where an event was last seen, as text, a remedy, and whether it is lost."""

    where: str
    remedy: str
    is_lost: bool


WAIT = "wait: it is in transit"
WAIT_FOR_READER = (
    "wait; if the committed offset does not advance, that consumer is down or has stopped the topic:"
    " see its /health/ready, and events_stopped in its metrics"
)
DECIDE = "check the reason, then `manage.py parked retry` or `discard`"
REPUBLISH = "--republish publishes it again, as the same event"
REPROCESS = "--republish processes it again"


def rows(event_ids: Iterable[str]) -> dict[str, OutboxEvent]:
    """The outbox rows of these events that still exist, by event id."""
    wanted = list(event_ids)
    found: dict[str, OutboxEvent] = {}
    for start in range(0, len(wanted), 1_000):
        part = OutboxEvent.objects.filter(event_id__in=wanted[start : start + 1_000]).defer("payload", "headers")
        found |= {str(row.event_id): row for row in part}
    return found


def never_arrived(topic: str, row: OutboxEvent | None) -> Sent:
    """Where an event that is not on its topic was last seen, according to its outbox row."""
    if row is None:
        return Sent(f"{topic} is neither in the outbox nor on its topic", REPUBLISH, is_lost=True)
    if row.sent_at:
        return Sent(f"{topic} was sent at {stamp(row.sent_at)}, but is not on its topic", REPUBLISH, is_lost=True)
    if row.discarded_at:
        gone = f"{topic} was discarded from the outbox at {stamp(row.discarded_at)} by {row.discarded_by}"
        return Sent(gone, "none: an operator discarded it", is_lost=False)
    if row.parked_at:
        reason = f"{topic} was parked in the outbox at {stamp(row.parked_at)}: {row.parked_reason}"
        return Sent(reason, DECIDE, is_lost=False)
    waits = f"{topic} waits in the outbox, written at {stamp(row.created_at)}: "
    if (first := _parked_before(row)) is not None:
        behind = f"row {first.position} of its key was parked: {first.parked_reason}"
        return Sent(waits + behind, DECIDE, is_lost=False)
    return Sent(waits + "the relay has not sent it yet", WAIT, is_lost=False)


def _parked_before(row: OutboxEvent) -> OutboxEvent | None:
    """The parked row for which an unsent row waits, if the rows of a parked row's key wait (OUTBOX_PARKED_KEY)."""
    if settings.OUTBOX_PARKED_KEY != "wait":
        return None
    same_key = parked.rows().filter(topic=row.topic, key=row.key, position__lt=row.position)
    return same_key.defer("payload", "headers").first()


def place(record: Record) -> str:
    """The position of a record, as text."""
    return f"{record.topic}/{record.partition} at offset {record.offset} ({stamp(moment(record))})"


def describe_dead_letter(letter: Record) -> str:
    """Which group wrote this dead letter, and why, as text."""
    header = {name: letter.header(f"deadletter-{name}") or "?" for name in ("group", "reason", "error")}
    return f"dead-lettered by {header['group']} ({header['reason']}: {header['error'][:200]}), on {place(letter)}"


def dead_letter_row(record: Record) -> OutboxEvent | None:
    """The outbox row of this service's dead letter of the record, if it still exists."""
    letter_id = FailedRecord(record, Exception(), 0).id
    return rows([letter_id]).get(letter_id)


def not_reached(record: Record, service: str, positions: dict[int, int]) -> tuple[str, str]:
    """Where a record is that the consumer of `service`, with these committed offsets, has not passed yet, and the remedy."""
    at = f"it is at offset {positions[record.partition]}" if record.partition in positions else "it has not begun"
    return f"{place(record)} exists, and {service} has not reached it yet: {at}", WAIT_FOR_READER


def redrive(letter: Record) -> str:
    """The remedy for a dead letter."""
    service = names.service(letter.header("deadletter-group") or "")
    key = (letter.key or b"").decode("utf-8", "replace")
    return f"check the reason, then `manage.py deadletters redrive --key {quote(key)} --settings=settings.{service}`"


def has_passed(positions: dict[int, int], record: Record) -> bool:
    """Whether a group with these committed offsets has processed this record."""
    return positions.get(record.partition, -1) > record.offset


def moment(record: Record) -> datetime:
    """The timestamp of a record, limited to the range of datetime, since a record may have any timestamp."""
    milliseconds = min(max(record.timestamp_ms, 0), LATEST_MS)
    return EPOCH + timedelta(milliseconds=milliseconds)


def stamp(moment: datetime) -> str:
    """Format a time in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
