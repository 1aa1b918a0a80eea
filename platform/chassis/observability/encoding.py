"""Spans as a serialized OTLP request, `ExportTraceServiceRequest` of opentelemetry-proto 1.

Plain spans, without events and links, whose attributes are text, numbers or booleans, are written here, in a fraction of the
time that the library takes to build the message objects. The library encodes all other spans. The two results are
concatenated: for protobuf, that is one message with the spans of both.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache

import structlog
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import SpanFlags
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import INVALID_SPAN_CONTEXT, StatusCode

log = structlog.get_logger(__name__)

CACHED = 1_024
"""Number of attributes kept in encoded form. Most are the same in many spans: methods, routes, statuses, replicas."""

_FLAGS = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_FLAGS_REMOTE = _FLAGS | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK

# Tag (field number << 3 | wire type) and length of the fields of a fixed size; see trace.proto and common.proto.
_IDS = struct.Struct(">BB16sBBQ")  # 1 trace_id, 2 span_id
_PARENT = struct.Struct(">BBQ")  # 4 parent_span_id
_KIND_AND_TIMES = struct.Struct("<BBBQBQ")  # 6 kind, 7 start_time_unix_nano, 8 end_time_unix_nano
_END = struct.Struct("<BBI")  # 16 flags
_DOUBLE = struct.Struct("<Bd")
_SHORT = [[bytes((number << 3 | 2, length)) for length in range(0x80)] for number in range(16)]
"""Tag and length of the fields 0 to 15 whose content is shorter than 128 bytes."""


def encode(spans: Sequence[ReadableSpan]) -> tuple[bytes, int]:
    """The body of an OTLP/HTTP request with these spans, and how many are not in it, since they cannot be encoded."""
    groups: dict[tuple[int, int], tuple[ReadableSpan, list[bytes]]] = {}
    others = []
    for span in spans:
        try:
            encoded = _span(span) if is_plain(span) else None
        except (TypeError, ValueError, AttributeError, OverflowError, struct.error):  # such as of a sequence
            encoded = None
        if encoded is None:
            others.append(span)
        else:
            # By identity: the hash of a resource is computed from all its attributes each time.
            group = groups.setdefault((id(span.resource), id(span.instrumentation_scope)), (span, []))
            group[1].append(encoded)
    own = b"".join(_resource_spans(first, encoded) for first, encoded in groups.values())
    by_library, failed = _by_library(others)
    return own + by_library, failed


def _by_library(spans: Sequence[ReadableSpan]) -> tuple[bytes, int]:
    """The spans as the library encodes them; one after another if it cannot encode one of them, which is left out."""
    if not spans:
        return b"", 0
    try:
        return encode_spans(spans).SerializePartialToString(), 0
    except Exception:
        if len(spans) == 1:
            log.exception("a span cannot be encoded")
            return b"", 1
        encoded = [_by_library([span]) for span in spans]
        return b"".join(body for body, _ in encoded), sum(failed for _, failed in encoded)


def is_plain(span: ReadableSpan) -> bool:
    """Whether `encode` writes this span itself, unless an attribute is a sequence."""
    context = span.context
    return (
        not span.events
        and not span.links
        and context is not None
        and not context.trace_state
        and not span.dropped_attributes
        and span.start_time is not None
        and span.end_time is not None
    )


def _resource_spans(first: ReadableSpan, spans: list[bytes]) -> bytes:
    """Encoded spans of one resource and one scope, those of `first`, which the library describes."""
    frame = ReadableSpan(
        "", INVALID_SPAN_CONTEXT, resource=first.resource, instrumentation_scope=first.instrumentation_scope
    )
    [described] = encode_spans([frame]).resource_spans
    [scoped] = described.scope_spans
    del scoped.spans[:]
    encoded = scoped.SerializePartialToString() + b"".join(spans)
    del described.scope_spans[:]
    return _field(1, described.SerializePartialToString() + _field(2, encoded))


def _span(span: ReadableSpan) -> bytes:
    context, parent, status, attributes = span.context, span.parent, span.status, span.attributes or {}
    assert context is not None
    parts = [
        _IDS.pack(0x0A, 16, context.trace_id.to_bytes(16), 0x12, 8, context.span_id),
        _PARENT.pack(0x22, 8, parent.span_id) if parent else b"",
        _field(5, _utf8(span.name)),
        _KIND_AND_TIMES.pack(0x30, span.kind.value + 1, 0x39, span.start_time, 0x41, span.end_time),
        *map(_attribute, attributes.keys(), attributes.values()),
        b"\x7a\x00" if status.status_code is StatusCode.UNSET else _field(15, _status(status.status_code, status.description)),
        _END.pack(0x85, 0x01, _FLAGS_REMOTE if parent and parent.is_remote else _FLAGS),
    ]  # fmt: skip
    return _field(2, b"".join(parts))


def _status(code: StatusCode, description: str | None) -> bytes:
    return (_field(2, _utf8(description)) if description else b"") + bytes((0x18, code.value))


@lru_cache(CACHED, typed=True)
def _attribute(name: str, value: str | float | bool) -> bytes:
    """9 attributes, a KeyValue of 1 key and 2 value. Raises TypeError if the value is not a scalar."""
    return _field(9, _field(1, _utf8(name)) + _field(2, _value(value)))


def _value(value: str | float | bool) -> bytes:
    """An AnyValue: 1 string_value, 2 bool_value, 3 int_value, 4 double_value."""
    if isinstance(value, str):
        return _field(1, _utf8(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, float):
        return _DOUBLE.pack(0x21, value)
    if -(1 << 63) <= value < 1 << 63:
        return b"\x18" + _varint(value & (1 << 64) - 1)
    return _value(str(value))


def _utf8(text: str) -> bytes:
    # One lone surrogate must not lose the whole batch.
    return text.encode("utf-8", "replace")


def _field(number: int, content: bytes) -> bytes:
    """A field with a length: text, or a message."""
    length = len(content)
    if length < 0x80:
        return _SHORT[number][length] + content
    return bytes((number << 3 | 2,)) + _varint(length) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
