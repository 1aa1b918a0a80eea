"""The format of an event on Kafka: CloudEvents 1.0 in binary mode, W3C trace context, and requestId, traceId and spanId."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.conf import settings
from opentelemetry import trace
from opentelemetry.context import Context
from pydantic import ValidationError

from chassis.events.event import Event
from chassis.events.registry import NO_SOURCE, Received
from chassis.kafka import names
from chassis.kafka.records import Record
from chassis.observability import correlation, tracing

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


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event to publish, its key (the aggregate's id), and the event that caused it (None: the current request)."""

    event: Event
    key: str
    cause: Received[Any] | None = None
    event_id: str | None = None
    """None generates a new id. Set it if publishing again must result in the same event."""


@dataclass(frozen=True, slots=True)
class Envelope:
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
    for one in outgoing:
        yield _seal(one, now)


def _seal(outgoing: Outgoing, now: str) -> Envelope:
    event, cause = outgoing.event, outgoing.cause
    event_id = outgoing.event_id or str(uuid.uuid4())
    request_id = cause.request_id if cause else correlation.current_request_id()
    span = trace.get_current_span(cause.context if cause else None).get_span_context()
    trace_id, span_id = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", event_id),
        ("ce_type", event.topic),
        ("ce_source", f"/{settings.SERVICE_NAME}"),
        ("ce_time", now),
        ("ce_dataschema", SCHEMA.format(topic=event.topic, version=event.version)),
        ("content-type", "application/json"),
        ("requestId", request_id),
        ("traceId", trace_id),
        ("spanId", span_id),
        ("traceparent", f"00-{trace_id}-{span_id}-{span.trace_flags:02x}"),
    ]
    if origin_time := cause.origin_time if cause else now:
        headers.append((ORIGIN_TIME, origin_time))
    if span.trace_state:
        headers.append(("tracestate", span.trace_state.to_header()))
    return Envelope(event_id, names.topic(event), outgoing.key, event.payload(), headers, request_id)


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
    return Received(event, event_id, key, _request_id(record), context_of(record), source, _origin_time(record))


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
    expected = SCHEMA.format(topic=model.topic, version=model.version)
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
    request_id = record.header("requestId") or ""
    return request_id if correlation.sane(request_id) else correlation.new()


def context_of(record: Record) -> Context:
    """The trace context of a record; empty if it has none."""
    carrier = {}
    if traceparent := record.header("traceparent"):
        carrier["traceparent"] = traceparent
        if tracestate := record.header("tracestate"):
            carrier["tracestate"] = tracestate
    return tracing.extract(carrier)
