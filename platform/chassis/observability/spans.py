"""Masking spans before they are exported: like log lines, they contain no personal data and no secrets."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol, overload

import structlog
from django.core.exceptions import SuspiciousOperation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.status import Status
from opentelemetry.util.types import Attributes

from chassis.observability import metrics, privacy, resource

log = structlog.get_logger(__name__)

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


class CleanSpan(ReadableSpan):
    """A span whose author vouches for each text in it: constants, ids, and paths from `masked_path`. It is not masked again."""


class Deferred(Protocol):
    """Spans that have ended, but are only made in the thread of the export, so that no request waits for that."""

    @property
    def number(self) -> int:
        """How many spans it becomes."""

    def spans(self) -> Sequence[ReadableSpan]:
        """Make them."""


def lost(reason: str, number: int) -> None:
    """Count spans that are lost: `queue_full` or `export_failed`. Raises nothing: a request may be ending."""
    with suppress(Exception):
        metrics.SPANS_DROPPED.labels(reason).inc(number)


class Masked(SpanExporter):
    """Passes spans to another exporter, masked: in the thread of the export, so that no request waits for it."""

    def __init__(self, inner: SpanExporter, configured_in: int | None = None) -> None:
        """`configured_in` is the id of the process that configured tracing, by default this one: it may have forked since."""
        self._inner = inner
        self._process = configured_in or os.getpid()
        self._resource: Resource | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Pass on finished spans, masked."""
        found = []
        for span in spans:
            try:
                found.append(self._masked(span))
            except Exception:
                log.exception("a span cannot be masked")
                lost("export_failed", 1)
        return self._inner.export(found)

    def _masked(self, span: ReadableSpan) -> ReadableSpan:
        described = self._resource_of(span)
        is_clean = isinstance(span, CleanSpan) and not any(link.context.trace_state for link in span.links)
        return span if is_clean and described is span.resource else masked(span, described)

    def _resource_of(self, span: ReadableSpan) -> Resource:
        """The resource of this process, which may be the child of the one that configured tracing."""
        if self._process != os.getpid():
            self._process, self._resource = os.getpid(), resource.here(span.resource)
        return self._resource or span.resource

    def shutdown(self) -> None:
        """Shut down the other exporter."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the other exporter."""
        return self._inner.force_flush(timeout_millis)


def masked(span: ReadableSpan, described: Resource) -> ReadableSpan:
    """The span with its attributes, events, links and status masked by `chassis.observability.privacy`, and this resource."""
    attributes = span.attributes or {}
    events = [Event(_valid(event.name), _event(event.attributes or {}), event.timestamp) for event in span.events]
    return ReadableSpan(
        name=_valid(privacy.scrub(span.name)),
        context=_without_state(span.context),
        parent=_without_state(span.parent),
        resource=described,
        attributes=_attributes(attributes),
        events=events,
        links=[_link(link) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code, _description(span)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _valid(text: str) -> str:
    """Text without lone surrogates, which protobuf rejects."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _link(link: Link) -> Link:
    return Link(_without_state(link.context), _attributes(link.attributes or {}))


@overload
def _without_state(context: SpanContext) -> SpanContext: ...
@overload
def _without_state(context: None) -> None: ...
def _without_state(context: SpanContext | None) -> SpanContext | None:
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
        return _valid(text.partition(":")[0])
    return _valid(privacy.scrub_error(text))


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
    return {
        name: _valid(_text(name, value, route)) if isinstance(value, str) else _value(name, value)
        for name, value in attributes.items()
    }


def _value(name: str, value: Any) -> Any:
    if name in CLIENT_INPUT or name.startswith(CAPTURED):
        return privacy.HIDDEN if value else value
    if _is_masked(name):
        return privacy.HIDDEN
    if isinstance(value, Mapping | list | tuple):
        return tuple(_valid(privacy.scrub(one)) if isinstance(one, str) else one for one in value)
    return value


@lru_cache(4_096)
def _text(name: str, value: str, route: str) -> str:
    """Mask text. Most of it (methods, routes, statements) is the same in many spans."""
    if name in CLIENT_INPUT or name.startswith(CAPTURED):
        return privacy.HIDDEN if value else value
    if name in TARGETS:
        return masked_path(value, route)
    if name in STATEMENTS:
        return privacy.scrub(_LITERAL.sub("'?'", value))
    if name.startswith("exception."):
        return privacy.scrub_error(value)
    return privacy.HIDDEN if _is_masked(name) else privacy.scrub(value)


def _is_masked(name: str) -> bool:
    return not name.startswith(CONVENTIONS) and privacy.is_masked(name.rpartition(".")[2])


def masked_path(url: str, route: str) -> str:
    """Mask a URL, except ids and the parts of its path that the route contains."""
    parts = _URL.fullmatch(url)
    assert parts is not None, "it matches any text"
    words = set(route.split("/"))
    path = [
        one if not one or one in words or _ID.fullmatch(one) else privacy.HIDDEN for one in parts["path"].split("/")
    ]
    rest = parts["rest"][0] + privacy.HIDDEN if len(parts["rest"]) > 1 else ""
    return privacy.scrub(parts["origin"] or "") + "/".join(path) + rest
