"""Building blocks for a service's reconciliation.py, which finds events and effects that are missing.

`manage.py reconcile` calls `find` of the running service's reconciliation.py. It reads the service's own tables and the
events on Kafka, never another service's database.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from shlex import quote

from chassis.deadletters.record import FailedRecord
from chassis.kafka import names
from chassis.kafka.records import Record
from chassis.messaging.models import OutboxEvent

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
        parked = f"{topic} was parked in the outbox at {stamp(row.parked_at)}: {row.parked_reason}"
        return Sent(parked, DECIDE, is_lost=False)
    waits = f"{topic} waits in the outbox, written at {stamp(row.created_at)}: the relay has not sent it yet"
    return Sent(waits, WAIT, is_lost=False)


def place(record: Record) -> str:
    """The position of a record, as text."""
    return f"{record.topic}/{record.partition} at offset {record.offset} ({stamp(moment(record))})"


def describe_dead_letter(letter: Record) -> str:
    """Which group wrote this dead letter, and why, as text."""
    header = {name: letter.header(f"deadletter-{name}") or "?" for name in ("group", "reason", "error")}
    return f"dead-lettered by {header['group']} ({header['reason']}: {header['error'][:200]}), on {place(letter)}"


def is_dead_lettered(record: Record) -> bool:
    """Whether this service has dead-lettered the record and its outbox still contains the dead letter."""
    return OutboxEvent.objects.filter(event_id=FailedRecord(record, Exception(), 0).id).exists()


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
