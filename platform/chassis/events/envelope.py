"""The format of an event on Kafka: CloudEvents 1.0 in binary mode, W3C trace context, and requestId, traceId and spanId."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from pydantic import ValidationError

from chassis.events.event import Event
from chassis.events.registry import NO_SOURCE, Received
from chassis.ids import new_id
from chassis.kafka import names
from chassis.kafka.records import Record
from chassis.observability import correlation, tracing
from chassis.observability.trace_context import TraceContext

E = TypeVar("E", bound=Event)

SCHEMA = "urn:events:{topic}:v{version}"

LONGEST_ID = 1_024
"""Maximum size of `ce_id` and of `ce_source`, in bytes: with a topic name they fit an index entry of PostgreSQL (2,704 bytes)."""


ORIGIN_TIME = "ce_origintime"
"""A CloudEvents extension attribute: the time of the request that began the chain of events. Every event of the chain has it."""

LONGEST_TIME = 35
"""Maximum length of a time in RFC 3339, in characters."""


class Unreadable(Exception):
    """The record is not an event that this service can read; a retry would not help."""


class Outgoing(NamedTuple):
    """An event to publish, its key (the aggregate's id), and the event that caused it (None: the current request)."""

    event: Event
    key: str
    cause: Received[Any] | None = None
    event_id: str | None = None
    """None generates a new id. Set it if publishing again must result in the same event."""


class Envelope(NamedTuple):
    """A record as it is written to Kafka, byte for byte."""

    event_id: str
    topic: str
    """The name on the wire."""
    key: str
    payload: bytes
    headers: list[tuple[str, str]]
    request_id: str


def seal(outgoing: Iterable[Outgoing]) -> list[Envelope]:
    """Build the envelopes of events, each with its trace and its request id."""
    return list(seal_each(outgoing))


def seal_each(outgoing: Iterable[Outgoing]) -> Iterator[Envelope]:
    """Build the envelopes of events lazily, one at a time."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    source = f"/{settings.SERVICE_NAME}"
    for one in outgoing:
        yield _seal(one, source, now)


def _seal(outgoing: Outgoing, source: str, now: str) -> Envelope:
    event, key, cause, event_id = outgoing
    event_id = event_id or str(new_id())
    if cause is None:
        request_id, position, origin_time = correlation.current_request_id(), tracing.current(), now
    else:
        request_id, position, origin_time = cause.request_id, cause.trace, cause.origin_time
    headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", event_id),
        ("ce_type", event.topic),
        ("ce_source", source),
        ("ce_time", now),
        ("ce_dataschema", _schema(event.topic, event.version)),
        ("content-type", "application/json"),
        ("requestId", request_id),
        ("traceId", position.trace_id),
        ("spanId", position.span_id),
        ("traceparent", position.traceparent),
    ]
    if origin_time:
        headers.append((ORIGIN_TIME, origin_time))
    if position.state:
        headers.append(("tracestate", position.state))
    return Envelope(event_id, names.topic(event), key, event.payload(), headers, request_id)


@cache
def _schema(topic: str, version: int) -> str:
    return SCHEMA.format(topic=topic, version=version)


def unseal(record: Record, model: type[E]) -> Received[E]:
    """Parse a record as `model`. Raises Unreadable, whose message never contains values of the payload."""
    if record.misnamed:
        lost = "" if record.headers_read else "; its headers are lost, since it is no longer on its topic"
        raise Unreadable(f"the name of a header is not UTF-8{lost}")
    event_id = _identifier(record, "ce_id")
    if not event_id:
        raise Unreadable("no ce_id header: a duplicate of this event could not be recognised")
    if not record.key:
        raise Unreadable("no key: the order of this event is unknown")
    if record.value is None:
        raise Unreadable("no value: this topic has no tombstones")
    if record.size > settings.KAFKA_MAX_MESSAGE_BYTES:
        raise Unreadable(f"{record.size} bytes; KAFKA_MAX_MESSAGE_BYTES is {settings.KAFKA_MAX_MESSAGE_BYTES}")
    _check_version(record, model)
    try:
        event = model.model_validate_json(record.value)
        key = record.key.decode()
    except ValidationError as error:
        raise Unreadable(_explain(error)) from None
    except UnicodeDecodeError:
        raise Unreadable("the key is not UTF-8") from None
    if "\0" in key:
        raise Unreadable("the key contains a NUL character, which PostgreSQL cannot store as text")
    source = _identifier(record, "ce_source") or NO_SOURCE
    return Received(event, event_id, key, _request_id(record), trace_of(record), source, _origin_time(record))


def _identifier(record: Record, name: str) -> str:
    """A header that the inbox stores. It is decoded strictly, since different ids must stay different."""
    value = record.raw_header(name) or b""
    if len(value) > LONGEST_ID:
        raise Unreadable(f"{name} has {len(value)} bytes; {LONGEST_ID} is the limit")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"{name} is not UTF-8") from None
    if "\0" in text:
        raise Unreadable(f"{name} contains a NUL character, which PostgreSQL cannot store as text")
    return text


def _check_version(record: Record, model: type[Event]) -> None:
    expected = _schema(model.topic, model.version)
    found = record.header("ce_dataschema") or expected
    if found != expected:
        raise Unreadable(f"its schema is {found[:200]}; this service reads {expected}")


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'payload'}: {p['msg']}" for p in problems[:10])


def _origin_time(record: Record) -> str:
    """The time at which the event's chain began; empty if there is none, as in an event of an older version, or not a time."""
    text = record.header(ORIGIN_TIME) or ""
    if not text or len(text) > LONGEST_TIME or not text.isprintable():  # Python accepts a NUL at the end
        return ""
    try:
        return text if datetime.fromisoformat(text).tzinfo is not None else ""
    except ValueError:
        return ""


def _request_id(record: Record) -> str:
    return correlation.accepted(record.header("requestId") or "")


def trace_of(record: Record) -> TraceContext:
    """The trace context of a record; `TraceContext()` if it has none that is valid."""
    return tracing.extract_text(record.header("traceparent") or "", record.header("tracestate") or "")
