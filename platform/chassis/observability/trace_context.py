"""The trace context that an event carries, as text: W3C Trace Context without OpenTelemetry's objects.

Every event has one, and most belong to traces that are not recorded. Passing text on, to a log line or to the events that
an event causes, takes a fraction of the time of making OpenTelemetry's contexts.
"""

import re
from random import getrandbits
from typing import NamedTuple, Self

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceContext(NamedTuple):
    """The position of a span in its trace; without arguments, that of no span."""

    trace_id: str = _NO_TRACE
    """32 hexadecimal digits."""
    span_id: str = _NO_SPAN
    """16 hexadecimal digits."""
    flags: str = "00"
    """Two hexadecimal digits."""
    state: str = ""
    """W3C `tracestate`."""

    @classmethod
    def parse(cls, traceparent: str) -> Self | None:
        """Read the usual form of a `traceparent`; None if it has another form, or no valid ids."""
        found = _TRACEPARENT.fullmatch(traceparent)
        if found is None:
            return None
        read = cls(*found.groups())
        return read if read.is_valid else None

    @classmethod
    def of(cls, span: SpanContext) -> Self:
        """The position of a span of OpenTelemetry."""
        state = span.trace_state.to_header() if span.trace_state else ""
        return cls(f"{span.trace_id:032x}", f"{span.span_id:016x}", f"{span.trace_flags:02x}", state)

    @property
    def is_valid(self) -> bool:
        """Whether this is the position of a span."""
        return self.trace_id != _NO_TRACE and self.span_id != _NO_SPAN

    @property
    def is_sampled(self) -> bool:
        """Whether the trace is recorded by the processes that have an exporter."""
        return bool(int(self.flags, 16) & TraceFlags.SAMPLED)

    @property
    def traceparent(self) -> str:
        """The header `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self) -> Self:
        """A new span of the same trace."""
        return type(self)(self.trace_id, new_span_id(), self.flags, self.state)

    def to_span_context(self, *, is_remote: bool) -> SpanContext:
        """OpenTelemetry's object for it."""
        state = TraceState.from_header([self.state]) if self.state else None
        return SpanContext(
            int(self.trace_id, 16), int(self.span_id, 16), is_remote, TraceFlags(int(self.flags, 16)), state
        )


def new_span_id() -> str:
    """A random span id."""
    return f"{getrandbits(64) or 1:016x}"
