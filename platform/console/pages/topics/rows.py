"""A record as a line of a list. The record itself is not kept: it may be large."""

from dataclasses import dataclass
from datetime import UTC, datetime

from chassis.deadletters.store import RESOLVES
from chassis.kafka.records import Record
from chassis.observability import tracing
from console import payloads

LONGEST_KEY = 80


@dataclass(frozen=True, slots=True)
class Row:
    """What a list shows of a record."""

    topic: str
    partition: int
    offset: int
    at: str
    key: str | None
    note: str
    """What a record of a dead-letter topic is: the reason of a dead letter, or `resolution`."""
    preview: str
    size: int
    trace_id: str


def row(record: Record) -> Row:
    """The line of a record."""
    key = payloads.key_text(None if record.key is None else record.key[:1_000])
    return Row(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at=moment(record.timestamp_ms),
        key=None if key is None else payloads.line(key, LONGEST_KEY),
        note=note(record),
        preview=payloads.preview(record.value),
        size=record.size,
        trace_id=tracing.ids_of(record.header("traceparent"))[0],
    )


def note(record: Record) -> str:
    """What a record of a dead-letter topic is; empty for others."""
    if record.raw_header(RESOLVES) is not None:
        return "resolution"
    reason = record.header("deadletter-reason")
    if reason is not None:
        return payloads.line(reason, 40)
    return "redriven" if record.raw_header("deadletter-redriven") is not None else ""


def moment(milliseconds: int | None) -> str:
    """A record's time in UTC; `none` if it has none, or one that no calendar knows."""
    if milliseconds is None or milliseconds < 0:
        return "none"
    try:
        return datetime.fromtimestamp(milliseconds / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    except (OverflowError, ValueError, OSError):
        return "none"
