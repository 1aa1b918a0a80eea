"""The encoder of spans against the library's own, for generated spans."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from chassis.observability.encoding import encode, is_plain

# Lengths at which the length itself takes one more byte.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from([127, 128, 20_000]).map(
    "x".__mul__
)
SCALARS = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
SEQUENCES = st.lists(TEXT, max_size=3).map(tuple) | st.lists(st.integers(-9, 9), max_size=3).map(tuple)
TIMES = st.integers(0, 2**64 - 1)
RESOURCES = [
    Resource({"service.name": name, "process.role": "web"}, "https://example.org/schema") for name in ("a", "b")
]
SCOPES = [None, InstrumentationScope("chassis"), InstrumentationScope("other", "1.2", "https://example.org/schema")]


def contexts(states: st.SearchStrategy[Any]) -> st.SearchStrategy[SpanContext]:
    return st.builds(
        SpanContext,
        st.integers(1, 2**128 - 1),
        st.integers(1, 2**64 - 1),
        st.booleans(),
        st.just(TraceFlags(1)),
        states,
    )


def spans(attributes: st.SearchStrategy[Any], **more: Any) -> st.SearchStrategy[ReadableSpan]:
    return st.builds(
        ReadableSpan,
        name=TEXT,
        context=contexts(more.pop("states", st.none())),
        parent=st.none() | contexts(st.none()),
        resource=st.sampled_from(RESOURCES),
        attributes=st.dictionaries(TEXT.filter(bool), attributes, max_size=4),
        kind=st.sampled_from(SpanKind),
        instrumentation_scope=st.sampled_from(SCOPES),
        status=st.just(Status()) | st.just(Status(StatusCode.OK)) | st.builds(Status, st.just(StatusCode.ERROR), TEXT),
        start_time=TIMES,
        end_time=TIMES,
        **more,
    )


PLAIN = spans(SCALARS)
OTHERS = spans(
    SCALARS | SEQUENCES,
    states=st.just(TraceState([("vendor", "1")])),
    events=st.lists(st.builds(Event, TEXT, st.dictionaries(TEXT.filter(bool), SCALARS), TIMES), max_size=2),
    links=st.lists(st.builds(Link, contexts(st.none())), max_size=2),
)


def by_id(encoded: bytes) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """Each span with the resource and the scope that it belongs to, whatever the order of the groups."""
    request = ExportTraceServiceRequest.FromString(encoded)
    return sorted(
        (
            span.SerializeToString(deterministic=True),
            described.resource.SerializeToString(deterministic=True),
            scoped.scope.SerializeToString(deterministic=True),
            f"{described.schema_url} {scoped.schema_url}".encode(),
        )
        for described in request.resource_spans
        for scoped in described.scope_spans
        for span in scoped.spans
    )


@given(st.lists(PLAIN | OTHERS, max_size=4))
def test_a_collector_reads_what_the_library_would_have_sent(batch: list[ReadableSpan]) -> None:
    body, failed = encode(batch)
    assert (by_id(body), failed) == (by_id(encode_spans(batch).SerializeToString()), 0)


@given(PLAIN)
def test_plain_spans_are_not_left_to_the_library(span: ReadableSpan) -> None:
    assert is_plain(span)


@given(OTHERS)
def test_a_span_with_more_is_left_to_the_library(span: ReadableSpan) -> None:
    assert not is_plain(span)


def test_text_that_is_not_unicode_does_not_lose_the_batch() -> None:
    context = SpanContext(1, 2, False, TraceFlags(1))
    odd = ReadableSpan(
        "\ud800", context, attributes={"a": "\udfff", "b": 2**70}, start_time=1, end_time=2, resource=RESOURCES[0]
    )
    [described] = ExportTraceServiceRequest.FromString(encode([odd])[0]).resource_spans
    [span] = described.scope_spans[0].spans
    assert (span.name, [one.value.string_value for one in span.attributes]) == ("?", ["?", str(2**70)])


GOOD = ReadableSpan("good", SpanContext(1, 2, False, TraceFlags(1)), start_time=1, end_time=2, resource=RESOURCES[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"status": None},
        {"start_time": -1},
        {"context": None},
        {"name": "\ud800", "events": [Event("e", timestamp=1)]},
        {"events": [Event("\ud800", timestamp=1)]},
    ],
    ids=["no name", "no status", "negative time", "no context", "surrogate in the name", "surrogate in an event"],
)
def test_a_span_that_cannot_be_encoded_is_left_out_alone(changes: dict[str, Any]) -> None:
    parts: dict[str, Any] = {
        "name": "odd",
        "context": GOOD.context,
        "start_time": 1,
        "end_time": 2,
        "resource": RESOURCES[0],
    }
    body, failed = encode([GOOD, ReadableSpan(**parts | changes), GOOD])
    request = ExportTraceServiceRequest.FromString(body)
    names = [
        span.name for described in request.resource_spans for scoped in described.scope_spans for span in scoped.spans
    ]
    assert names.count("good") == 2
    assert len(names) + failed == 3
