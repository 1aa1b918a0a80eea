"""Trace contexts as text are the same as OpenTelemetry's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis.observability import tracing
from chassis.observability.trace_context import TraceContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def of_library(traceparent: str, tracestate: str = "") -> TraceContext:
    carrier = {"traceparent": traceparent} | ({"tracestate": tracestate} if tracestate else {})
    context = TraceContextTextMapPropagator().extract(carrier)
    return TraceContext.of(trace.get_current_span(context).get_span_context())


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255))
def test_the_usual_form(trace_id, span_id, flags):
    text = f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"
    found = tracing.extract_text(text)
    assert found == of_library(text)
    if found.is_valid:
        assert found.traceparent == text
        assert TraceContext.of(found.to_span_context(is_remote=True)) == found


@pytest.mark.parametrize(
    ("traceparent", "tracestate"),
    [
        ("", ""),
        ("yesterday", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"01-{TRACE}-{SPAN}-01-later", ""),
        (f"ff-{TRACE}-{SPAN}-01", ""),
        (f"00-{TRACE.upper()}-{SPAN}-01", ""),
        (f"00-{TRACE}-{SPAN}-01", "vendor=1,other=2"),
        (f"00-{TRACE}-{SPAN}-00", "not a state"),
    ],
)
def test_other_forms_are_read_as_the_library_reads_them(traceparent, tracestate):
    assert tracing.extract_text(traceparent, tracestate) == of_library(traceparent, tracestate)


def test_a_child_that_is_not_recorded_is_another_span_of_the_same_trace():
    parent = TraceContext(TRACE, SPAN, "01", "vendor=1")
    child = tracing.unrecorded_child(parent)
    assert child is not None, "no exporter, so nothing is recorded"
    assert child.span_id not in (SPAN, "0" * 16)
    assert child._replace(span_id=SPAN) == parent


def test_without_a_parent_a_new_trace_begins():
    child = tracing.unrecorded_child(TraceContext())
    assert child is not None
    assert child.is_valid
    assert not child.is_sampled
