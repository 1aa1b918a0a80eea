"""What should have happened and has not: the words in which a service's reconciliation.py says it, and what it asks.

`manage.py reconcile` calls `find` of the running service's reconciliation.py. It looks at the service's own tables and at
the events on Kafka, never at another service's database.
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
"""Clocks of different machines differ by less. An event is looked for from this long before the change that it is about."""


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


@dataclass(frozen=True, slots=True)
class Period:
    """Which changes are looked at: made at `since` or later, and long enough ago that their events should have arrived."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is missing: what, since when, where it was last seen, and what can be done about it."""

    what: str
    since: datetime
    where: str
    remedy: str
    repair: Callable[[], bool] | None = None
    """What `--republish` does; False if in the meantime there was nothing to do. None: it would not help."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that is on its topic or was sent; or why it is not, in words, with a remedy."""

    where: str
    remedy: str
    is_lost: bool


WAIT = "wait: it is on its way"
DECIDE = "see why, then `manage.py parked retry` or `discard`"
REPUBLISH = "--republish publishes it again, as the same event"
REPROCESS = "--republish processes it again"


def rows(event_ids: Iterable[str]) -> dict[str, OutboxEvent]:
    """The outbox rows of these events that are still there, by event id."""
    wanted = list(event_ids)
    found: dict[str, OutboxEvent] = {}
    for start in range(0, len(wanted), 1_000):
        part = OutboxEvent.objects.filter(event_id__in=wanted[start : start + 1_000]).defer("payload", "headers")
        found |= {str(row.event_id): row for row in part}
    return found


def never_arrived(topic: str, row: OutboxEvent | None) -> Sent:
    """Where an event was last seen that is not on its topic, from its outbox row."""
    if row is None:
        return Sent(f"{topic} is neither in the outbox nor on its topic", REPUBLISH, is_lost=True)
    if row.sent_at:
        return Sent(f"{topic} was sent at {stamp(row.sent_at)}, but is not on its topic", REPUBLISH, is_lost=True)
    if row.discarded_at:
        gone = f"{topic} was discarded from the outbox at {stamp(row.discarded_at)} by {row.discarded_by}"
        return Sent(gone, "a person decided so", is_lost=False)
    if row.parked_at:
        parked = f"{topic} was parked in the outbox at {stamp(row.parked_at)}: {row.parked_reason}"
        return Sent(parked, DECIDE, is_lost=False)
    waits = f"{topic} waits in the outbox since {stamp(row.created_at)}: the relay has not sent it yet"
    return Sent(waits, WAIT, is_lost=False)


def place(record: Record) -> str:
    """Where a record stands, in words."""
    return f"{record.topic}/{record.partition} at offset {record.offset} ({stamp(moment(record))})"


def describe_dead_letter(letter: Record) -> str:
    """Whose dead letter this is and why, in words."""
    said = {name: letter.header(f"deadletter-{name}") or "?" for name in ("group", "reason", "error")}
    return f"dead-lettered by {said['group']} ({said['reason']}: {said['error'][:200]}), on {place(letter)}"


def is_dead_lettered(record: Record) -> bool:
    """Whether this service has dead-lettered the record, and the dead letter is still in its outbox."""
    return OutboxEvent.objects.filter(event_id=FailedRecord(record, Exception(), 0).id).exists()


def redrive(letter: Record) -> str:
    """What to do about a dead letter."""
    service = names.service(letter.header("deadletter-group") or "")
    key = (letter.key or b"").decode("utf-8", "replace")
    return f"see why, then `manage.py deadletters redrive --key {quote(key)} --settings=settings.{service}`"


def has_passed(positions: dict[int, int], record: Record) -> bool:
    """Whether a group whose committed offsets these are has processed this record."""
    return positions.get(record.partition, -1) > record.offset


def moment(record: Record) -> datetime:
    """When a record was written, by its own word; the nearest that a datetime can say, as a record may say any number."""
    milliseconds = min(max(record.timestamp_ms, 0), LATEST_MS)
    return EPOCH + timedelta(milliseconds=milliseconds)


def stamp(moment: datetime) -> str:
    """A moment in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
