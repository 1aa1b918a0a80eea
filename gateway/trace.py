"""The trace of a proxied request: continued from the client's `traceparent`, or started here.

The gateway decides which traces are recorded (`OTEL_TRACES_SAMPLER`); the services obey. A sampled request results in two spans,
SERVER for the client's request and CLIENT for the service's response, which are made when they are exported. The SDK's
own spans, and its generation of ids, would take a tenth of the whole request even if it is not sampled.
"""

import random
import re
import time
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from chassis.observability import tracing
from chassis.observability.middleware import OTHER
from chassis.observability.spans import masked_path

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
_SAMPLED = 0x01

_random = random.Random()  # noqa: S311  ids, not secrets


@dataclass(slots=True)
class Trace:
    """Trace id and span id in hexadecimal, the headers for the service, and the recording if the trace is sampled."""

    trace_id: str
    span_id: str
    traceparent: bytes
    tracestate: bytes
    recording: "Recording | None" = None


@dataclass(slots=True)
class Recording:
    """What becomes the two spans of a sampled request when they are exported; times in nanoseconds since the epoch."""

    method: str
    route: str
    trace_id: int
    server_id: int
    client_id: int
    parent: SpanContext | None
    begun: int = field(default_factory=time.time_ns)
    sent_at: int = 0
    """When the request was sent to the service; 0 if it was not."""
    answered_at: int = 0
    replica: str = ""
    upstream_status: int = 0
    upstream_error: str = ""
    resends: int = 0
    ended_at: int = 0
    status: int = 0
    path: str = ""
    request_id: str = ""
    reason: str = ""

    def sent(self) -> None:
        """The request is being sent to the service."""
        self.sent_at = time.time_ns()

    def answered(self, *, replica: str, resends: int, status: int = 0, error: Exception | None = None) -> None:
        """The service, at `host:port`, has responded, or failed to."""
        self.answered_at = time.time_ns()
        self.replica, self.resends, self.upstream_status = replica, resends, status
        self.upstream_error = type(error).__name__ if error is not None else ""

    def end(self, status: int, *, path: str, request_id: str, reason: str) -> None:
        """Record the spans. `status` is that of the response, `reason` why the gateway made that response itself."""
        self.ended_at = time.time_ns()
        self.status, self.path, self.request_id, self.reason = status, path, request_id, reason
        tracing.emit(self)

    @property
    def number(self) -> int:
        """How many spans it becomes."""
        return 2 if self.sent_at else 1

    def spans(self) -> list[ReadableSpan]:
        """The spans: SERVER, and CLIENT if the request was sent to the service."""
        path = masked_path(self.path, self.route)
        return [self._client(path), self._server(path)] if self.sent_at else [self._server(path)]

    def _server(self, path: str) -> ReadableSpan:
        attributes: dict[str, Any] = {
            "http.request.method": self.method,
            "http.route": self.route,
            "http.response.status_code": self.status,
            "url.scheme": "http",
            "url.path": path,
            "request.id": self.request_id,
        }
        if self.reason or self.status >= 499:
            attributes["error.type"] = self.reason or str(self.status)
        return tracing.ended(
            self._name(self.route),
            SpanKind.SERVER,
            trace_id=self.trace_id,
            span_id=self.server_id,
            parent=self.parent,
            begun=self.begun,
            ended=self.ended_at,
            attributes=attributes,
            error="" if self.status >= 500 else None,
            clean=True,
        )

    def _client(self, path: str) -> ReadableSpan:
        ended = self.answered_at or self.ended_at
        host, _, port = self.replica.rpartition(":")
        template = self.route.removeprefix("/api")
        attributes: dict[str, Any] = {
            "http.request.method": self.method,
            "server.address": host or self.replica,
            "url.full": f"http://{self.replica}{path.removeprefix('/api')}",
        }
        if port.isdigit():
            attributes["server.port"] = int(port)
        if self.upstream_status:
            attributes["http.response.status_code"] = self.upstream_status
        failed = self.upstream_error or (str(self.upstream_status) if self.upstream_status >= 400 else "")
        if failed:
            attributes["error.type"] = failed
        events = []
        if self.resends:
            attributes["http.request.resend_count"] = self.resends
            events.append(
                Event("retry", {"retry.attempt": self.resends, "retry.reason": "ClosedWithoutResponse"}, ended)
            )
        return tracing.ended(
            self._name(template),
            SpanKind.CLIENT,
            trace_id=self.trace_id,
            span_id=self.client_id,
            parent=SpanContext(self.trace_id, self.server_id, False, TraceFlags(_SAMPLED)),
            begun=self.sent_at,
            ended=ended,
            attributes=attributes,
            events=events,
            error="" if failed else None,
            clean=True,
        )

    def _name(self, route: str) -> str:
        return f"{'HTTP' if self.method == OTHER else self.method} {route}"


def record_failure(failed: Trace, *, method: str, route: str, seconds: float) -> Recording | None:
    """The recording of a request that has failed, but whose trace is not sampled; None unless the sampler wants it.

    `seconds` is how long the request took. Its service has recorded nothing, since it was told that the trace is not sampled.
    """
    sampling = tracing.sampling()
    if sampling is None or not sampling.roots.wants_failure():
        return None
    begun = time.time_ns() - int(seconds * 1e9)
    return Recording(method, route, int(failed.trace_id, 16), int(failed.span_id, 16), 0, None, begun)


def begin(traceparent: bytes | None, tracestate: bytes | None, *, method: str, route: str) -> Trace:
    """The trace of a request. An invalid `traceparent` starts a new trace, without the client's `tracestate`."""
    known = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    if known is not None and known[1] == b"00" and known[5]:
        known = None
    state = _clean(tracestate) if known is not None and tracestate is not None else b""
    flags = int(known[4], 16) & _KNOWN_FLAGS if known is not None else 0
    trace_number = int(known[2], 16) if known is not None else _random.getrandbits(128) or 1
    server_number = _random.getrandbits(64) or 1
    trace_id, span_id = f"{trace_number:032x}", f"{server_number:016x}"
    sampling = tracing.sampling()
    if sampling is None:
        return Trace(trace_id, span_id, f"00-{trace_id}-{span_id}-{flags:02x}".encode(), state)
    if known is None or not sampling.parent_based:
        sampled = sampling.roots.wants(trace_number)
        flags = flags | _SAMPLED if sampled else flags & ~_SAMPLED
    if not flags & _SAMPLED:
        return Trace(trace_id, span_id, f"00-{trace_id}-{span_id}-{flags:02x}".encode(), state)
    client_number = _random.getrandbits(64) or 1
    parent = SpanContext(trace_number, int(known[3], 16), True, TraceFlags(flags)) if known is not None else None
    recording = Recording(method, route, trace_number, server_number, client_number, parent)
    return Trace(trace_id, span_id, f"00-{trace_id}-{client_number:016x}-{flags:02x}".encode(), state, recording)


def _clean(tracestate: bytes) -> bytes:
    """The members without empty ones; empty if one of them is invalid or there are too many."""
    members = [member for part in tracestate.split(b",") if (member := part.strip(b" \t"))]
    if len(members) > _MAX_MEMBERS or not all(_MEMBER.fullmatch(member) for member in members):
        return b""
    return b",".join(members)
