"""What of a span leaves the process: the same as of a log line, nothing personal and no secrets."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace.status import Status
from opentelemetry.util.types import Attributes

from chassis.observability import privacy

HEARSAY = frozenset(
    {
        "url.query", "http.user_agent", "user_agent.original",
        "client.address", "http.client_ip", "net.peer.ip", "net.peer.name", "net.sock.peer.addr", "network.peer.address",
    }
)  # fmt: skip
"""Whatever a client wrote, and where it is: no log line has it either. The route says what was asked."""

TARGETS = frozenset({"http.target", "http.url", "url.full", "url.original"})

CONVENTIONS = (
    "code.",
    "db.",
    "http.",
    "messaging.",
    "net.",
    "network.",
    "otel.",
    "server.",
    "service.",
    "telemetry.",
    "url.",
)
"""What the semantic conventions name (`db.name`) is no person's: only what is above, and what is written in its text."""


class Masked(SpanProcessor):
    """Hands each span that ends on to another processor, masked."""

    def __init__(self, inner: SpanProcessor) -> None:
        self._inner = inner

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span begins."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended."""
        self._inner.on_end(masked(span))

    def shutdown(self) -> None:
        """The process ends."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Hand over what waits."""
        return self._inner.force_flush(timeout_millis)


def masked(span: ReadableSpan) -> ReadableSpan:
    """The span with its attributes, events and status masked by `chassis.observability.privacy`."""
    status = span.status
    return ReadableSpan(
        name=privacy.scrub(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(span.attributes),
        events=[Event(event.name, _attributes(event.attributes), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(status.status_code, _description(status.description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _description(text: str | None) -> str | None:
    # `KindOfError: what it says`
    return None if text is None else privacy.scrub(text)


def _attributes(attributes: Attributes) -> Attributes:
    return {name: _value(name, value) for name, value in (attributes or {}).items()}


def _value(name: str, value: Any) -> Any:
    if name in HEARSAY:
        return privacy.HIDDEN if value else value
    if name in TARGETS and isinstance(value, str):
        path, question, query = value.partition("?")
        # An address may be written with %40.
        return privacy.scrub(unquote(path)) + (question + privacy.HIDDEN if query else "")
    if not name.startswith(CONVENTIONS) and privacy.is_masked(name.rpartition(".")[2]):
        return privacy.HIDDEN
    if isinstance(value, str):
        return privacy.scrub(value)
    if isinstance(value, Mapping | list | tuple):
        return tuple(privacy.scrub(one) if isinstance(one, str) else one for one in value)
    return value
