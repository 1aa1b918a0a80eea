"""The trace of a proxied request: continued from the client's `traceparent`, or started here.

With an exporter this is a span of the SDK. Without one (`OTEL_TRACES_EXPORTER` unset) nothing is recorded, and the ids are
generated here, since the SDK would take a tenth of the whole request for that.
"""

import random
import re
from dataclasses import dataclass
from functools import cache

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from chassis.observability import tracing
from chassis.observability.middleware import OTHER

# https://www.w3.org/TR/trace-context-2/: only versions after 00 may have more fields after the flags, and ff is not a version.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})((?:-.*)?)"
)
_MEMBER = re.compile(
    rb"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS = 32
_KNOWN_FLAGS = 0x03
"""Sampled, and random trace id. Other flags are not forwarded, since their meaning is unknown."""

_random = random.Random()  # noqa: S311  ids, not secrets


@dataclass(slots=True)
class Trace:
    """Trace id and span id in hexadecimal, the headers for the service, and the span if one is recorded."""

    trace_id: str
    span_id: str
    traceparent: bytes
    tracestate: bytes
    span: Span | None = None

    def end(self, status: int) -> None:
        """End the span with the status of the response."""
        if self.span is not None:
            self.span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self.span.set_status(Status(StatusCode.ERROR))
            self.span.end()


def begin(traceparent: bytes | None, tracestate: bytes | None, *, method: str, route: str) -> Trace:
    """The trace of a request. An invalid `traceparent` starts a new trace, without the client's `tracestate`."""
    known = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    if known is not None and known[1] == b"00" and known[5]:
        known = None
    state = _clean(tracestate) if known is not None and tracestate is not None else b""
    flags = int(known[4], 16) & _KNOWN_FLAGS if known is not None else 0
    if recording():
        parent = f"00-{known[2].decode()}-{known[3].decode()}-{flags:02x}" if known is not None else ""
        return _recorded(parent, state.decode("latin-1"), method, route)
    span_id = f"{_random.getrandbits(64) or 1:016x}"
    trace_id = known[2].decode() if known is not None else f"{_random.getrandbits(128) or 1:032x}"
    return Trace(trace_id, span_id, f"00-{trace_id}-{span_id}-{flags:02x}".encode(), state)


def _clean(tracestate: bytes) -> bytes:
    """The members without empty ones; empty if one of them is invalid or there are too many."""
    members = [member for part in tracestate.split(b",") if (member := part.strip(b" \t"))]
    if len(members) > _MAX_MEMBERS or not all(_MEMBER.fullmatch(member) for member in members):
        return b""
    return b",".join(members)


@cache
def recording() -> bool:
    """Whether spans are recorded."""
    provider = trace.get_tracer_provider()
    return isinstance(provider, TracerProvider) and provider.sampler is not ALWAYS_OFF


def _recorded(traceparent: str, tracestate: str, method: str, route: str) -> Trace:
    offered = {"traceparent": traceparent, "tracestate": tracestate}
    span = tracing.tracer(__name__).start_span(
        f"{'HTTP' if method == OTHER else method} {route}",
        context=tracing.extract({name: value for name, value in offered.items() if value}),
        kind=SpanKind.SERVER,
        attributes={"http.request.method": method, "http.route": route},
    )
    carrier: dict[str, str] = {}
    with trace.use_span(span, end_on_exit=False):
        tracing.inject(carrier)
        trace_id, span_id = tracing.current_ids()
    return Trace(trace_id, span_id, carrier["traceparent"].encode(), carrier.get("tracestate", "").encode(), span)
