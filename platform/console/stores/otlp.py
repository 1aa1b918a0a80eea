"""Reading OTLP: the protobuf messages of a span, and what a story's summary takes from it."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from console.stores.model import Attributes, Happening, Span, SpanLink

KINDS = {
    SpanMessage.SPAN_KIND_SERVER: "SERVER",
    SpanMessage.SPAN_KIND_CLIENT: "CLIENT",
    SpanMessage.SPAN_KIND_PRODUCER: "PRODUCER",
    SpanMessage.SPAN_KIND_CONSUMER: "CONSUMER",
}
DEEPEST = 8
"""How deep values may be nested."""
LONGEST_NAME = 249
"""Maximum number of characters of the names of services, processes, topics and requests that are kept; the rest is cut off."""

Origin = tuple[str, str, str]
"""Service, role and instance of the process that recorded a span."""


def messages(request: ExportTraceServiceRequest) -> Iterator[tuple[Origin, SpanMessage]]:
    """All spans of a request, each with its origin."""
    for described in request.resource_spans:
        origin = _origin(described.resource)
        for scope in described.scope_spans:
            for span in scope.spans:
                yield origin, span


def is_valid(span: SpanMessage) -> bool:
    """Whether its ids and times are those of a span."""
    return (
        len(span.trace_id) == 16
        and any(span.trace_id)
        and len(span.span_id) == 8
        and any(span.span_id)
        and len(span.parent_span_id) in (0, 8)
        and 0 < span.start_time_unix_nano <= span.end_time_unix_nano < 1 << 63
    )


def span_of(origin: Origin, span: SpanMessage) -> Span:
    """The span of a message."""
    service, role, instance = origin
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=KINDS.get(span.kind, "INTERNAL"),
        service=service,
        role=role,
        instance=instance,
        begun=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=attributes(span.attributes),
        happenings=tuple(Happening(one.name, one.time_unix_nano, attributes(one.attributes)) for one in span.events),
        links=tuple(
            SpanLink(one.trace_id.hex(), one.span_id.hex(), attributes(one.attributes))
            for one in span.links
            if len(one.trace_id) == 16 and len(one.span_id) == 8
        ),
        error=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
    )


def attributes(pairs: Iterable[KeyValue]) -> Attributes:
    """Attributes as Python values."""
    return {pair.key: _value(pair.value) for pair in pairs}


def number(value: object) -> int | None:
    """An attribute that is a number, of at most 18 digits, or the text of one; None for all others: it may be of any type."""
    text = str(value) if isinstance(value, int | str) else ""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _value(one: AnyValue, depth: int = 0) -> Any:
    kind = one.WhichOneof("value")
    if kind in {"array_value", "kvlist_value"} and depth >= DEEPEST:
        return "…"
    if kind == "array_value":
        return [_value(item, depth + 1) for item in one.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value, depth + 1) for pair in one.kvlist_value.values}
    if kind == "bytes_value":
        return one.bytes_value.hex()
    if kind == "double_value" and not math.isfinite(one.double_value):
        return str(one.double_value)  # JSON has no such number
    return getattr(one, kind) if kind else None


def _origin(resource: Resource) -> Origin:
    known = attributes(resource.attributes)
    return (
        str(known.get("service.name") or "unknown")[:LONGEST_NAME],
        str(known.get("process.role") or "")[:LONGEST_NAME],
        str(known.get("service.instance.id") or "")[:LONGEST_NAME],
    )
