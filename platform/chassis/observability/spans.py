"""Masking spans before they are exported: like log lines, they contain no personal data and no secrets."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import SuspiciousOperation
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext
from opentelemetry.trace.status import Status
from opentelemetry.util.types import Attributes

from chassis.observability import privacy

CLIENT_INPUT = frozenset(
    {
        "url.query", "url.fragment", "http.request.method_original", "http.user_agent", "user_agent.original", "http.host", "net.host.name",
        "client.address", "http.client_ip", "net.peer.ip", "net.peer.name", "net.sock.peer.addr", "network.peer.address",
    }
)  # fmt: skip
"""Attributes with the client's input or address, which are not logged either. The route identifies the request."""

CAPTURED = (
    "http.request.header.",
    "http.response.header.",
    "db.query.parameter.",
    "db.operation.parameter.",
    "db.statement.parameters",
)
"""Prefixes of attributes that contain transmitted values, if their capture is enabled."""

TARGETS = frozenset({"http.target", "http.url", "url.full", "url.path", "url.original"})
STATEMENTS = frozenset({"db.statement", "db.query.text"})

_URL = re.compile(r"(?P<origin>[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?(?P<path>[^?#]*)(?P<rest>.*)", re.DOTALL)
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LITERAL = re.compile(r"'(?:[^']|'')*'")

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
"""Prefixes of names from the semantic conventions, such as `db.name`, which are not masked because of their last part."""


class Masked(SpanProcessor):
    """Passes each finished span to another processor, masked."""

    def __init__(self, inner: SpanProcessor) -> None:
        self._inner = inner

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass on the start of a span."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass on a finished span, masked."""
        self._inner.on_end(masked(span))

    def shutdown(self) -> None:
        """Shut down the other processor."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the other processor."""
        return self._inner.force_flush(timeout_millis)


def masked(span: ReadableSpan) -> ReadableSpan:
    """The span with its attributes, events and status masked by `chassis.observability.privacy`."""
    attributes = span.attributes or {}
    events = [Event(event.name, _event(event.attributes or {}), event.timestamp) for event in span.events]
    return ReadableSpan(
        name=privacy.scrub(span.name),
        context=_context(span.context),
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(attributes),
        events=events,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, _description(span)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _context(context: SpanContext | None) -> SpanContext | None:
    # `tracestate` is a client's data for other systems: it is passed on to them, but not exported.
    if context is None or not context.trace_state:
        return context
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _description(span: ReadableSpan) -> str | None:
    text = span.status.description
    if text is None:
        return None
    if any(_quotes_request(event.attributes or {}) for event in span.events):
        # `TypeOfError: message`
        return text.partition(":")[0]
    return privacy.scrub_error(text)


def _event(attributes: Mapping[str, Any]) -> Attributes:
    names = ("exception.message", "exception.stacktrace")
    if _quotes_request(attributes):
        attributes = {**attributes, **{name: privacy.HIDDEN for name in names if name in attributes}}
    return _attributes(attributes)


def _quotes_request(attributes: Mapping[str, Any]) -> bool:
    """Whether an exception quotes a request: Django's SuspiciousOperation and its subclasses, whose text is not logged either."""
    module, _, name = str(attributes.get("exception.type", "")).rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and issubclass(kind, SuspiciousOperation)


def _attributes(attributes: Mapping[str, Any]) -> Attributes:
    route = str(attributes.get("http.route") or "")
    return {name: _value(name, value, route) for name, value in attributes.items()}


def _value(name: str, value: Any, route: str) -> Any:
    if name in CLIENT_INPUT or name.startswith(CAPTURED):
        return privacy.HIDDEN if value else value
    if isinstance(value, str):
        return _text(name, value, route)
    if _is_masked(name):
        return privacy.HIDDEN
    if isinstance(value, Mapping | list | tuple):
        return tuple(privacy.scrub(one) if isinstance(one, str) else one for one in value)
    return value


def _text(name: str, value: str, route: str) -> str:
    if name in TARGETS:
        return _target(value, route)
    if name in STATEMENTS:
        return privacy.scrub(_LITERAL.sub("'?'", value))
    if name.startswith("exception."):
        return privacy.scrub_error(value)
    return privacy.HIDDEN if _is_masked(name) else privacy.scrub(value)


def _is_masked(name: str) -> bool:
    return not name.startswith(CONVENTIONS) and privacy.is_masked(name.rpartition(".")[2])


def _target(url: str, route: str) -> str:
    """Mask a URL, except ids and the parts of its path that the route contains."""
    parts = _URL.fullmatch(url)
    assert parts is not None, "it matches any text"
    words = set(route.split("/"))
    path = [
        one if not one or one in words or _ID.fullmatch(one) else privacy.HIDDEN for one in parts["path"].split("/")
    ]
    rest = parts["rest"][0] + privacy.HIDDEN if len(parts["rest"]) > 1 else ""
    return privacy.scrub(parts["origin"] or "") + "/".join(path) + rest
