"""The PRODUCER span of a record: from the moment it is given to the Kafka client to the broker's acknowledgement.

It is a child of the span in the record's `traceparent`, like the CONSUMER spans of its readers, since the record is written
before it is sent and its bytes do not change. Its id is a function of topic and event id, so the readers can link to it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from chassis.observability import tracing

_IN_JSON = re.compile(r'\["traceparent", ?"(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})"\]')


def parent_in_json(headers: str | None) -> SpanContext | None:
    """The parent of the span, from the headers as the outbox stores them; None if nothing is recorded for this record."""
    if headers is None or not tracing.is_recording():
        return None
    found = _IN_JSON.search(headers)
    return _sampled(found[1]) if found else None


def parent_of(headers: Iterable[tuple[str, str | bytes | None]]) -> SpanContext | None:
    """The parent of the span, from the headers of a record; None if nothing is recorded for this record."""
    if not tracing.is_recording():
        return None
    value = dict(headers).get("traceparent") or ""
    return _sampled(value.decode("latin-1") if isinstance(value, bytes) else value)


def _sampled(traceparent: str) -> SpanContext | None:
    context = trace.get_current_span(tracing.extract({"traceparent": traceparent})).get_span_context()
    return context if context.is_valid and context.trace_flags.sampled else None


def link_to(topic: str, event_id: str, parent: SpanContext) -> Link:
    """A link to the span of a record with this id, whose `traceparent` contains `parent`."""
    return _link(parent, tracing.id_of("send", topic, event_id))


def link_to_redrive(letter_id: str, parent: SpanContext) -> Link:
    """A link to the span of the redrive of a dead letter."""
    return _link(parent, tracing.id_of("redrive", letter_id))


def _link(parent: SpanContext, span_id: int) -> Link:
    return Link(SpanContext(parent.trace_id, span_id, True, TraceFlags(TraceFlags.SAMPLED)))


def sent(
    topic: str,
    event_id: str,
    parent: SpanContext,
    *,
    begun: int,
    ended: int,
    attributes: Mapping[str, Any],
    error: str | None = None,
    redrive_of: str = "",
    links: Sequence[Link] = (),
) -> None:
    """Record the span `send TOPIC`, times in nanoseconds since the epoch.

    `redrive_of`: the id of the dead letter that was redriven. `error`: why the record was refused.
    """
    span = tracing.ended(
        f"send {topic}",
        SpanKind.PRODUCER,
        trace_id=parent.trace_id,
        span_id=tracing.id_of("redrive", redrive_of) if redrive_of else tracing.id_of("send", topic, event_id),
        parent=parent,
        begun=begun,
        ended=ended,
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.name": topic,
            "messaging.message.id": event_id,
            **attributes,
        },
        links=links,
        error=error,
    )
    tracing.emit(span)
