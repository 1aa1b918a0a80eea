"""Reads of one object, or of the newest of a list, without Django's middleware and REST framework's view.

A `GET` that asks for JSON and has no condition spends most of its time in layers that leave it as it is. Such a request is answered
here: the rows are read by a prepared statement and represented by the serializer of their view, and all other header fields are
those of a response of the view. Requests that differ in any field that can matter, one of MATTERS, have responses of their own. The
first of each goes the usual way, and its response is remembered if the answer from here would have been the same.

What is not known here, and every error, goes the usual way too. See docs/adr/0066-plain-reads.md.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

from django.conf import settings
from django.core.signals import request_finished, request_started
from django.urls import URLPattern

from chassis.http import plain_views
from chassis.http.conditions import Validators
from chassis.http.plain_views import Link, Read, Representation
from chassis.http.wsgi import Application
from chassis.observability import correlation, metrics, requests, sql_spans, tracing
from chassis.observability.correlation import HEADER, bind_request_id, current_request_id
from chassis.observability.logging import log_all
from chassis.observability.middleware import LOGGER
from chassis.observability.trace_context import TraceContext

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Fields = list[tuple[str, str]]

MATTERS = frozenset(
    {
        "HTTP_HOST", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_PROTO",
        "HTTP_ORIGIN", "HTTP_ACCEPT", "REMOTE_ADDR", "SCRIPT_NAME", "SERVER_PROTOCOL", "wsgi.url_scheme",
    }
)  # fmt: skip
"""What distinguishes requests: with the same values, their responses have the same fields."""

IGNORED = frozenset(
    {
        "HTTP_ACCEPT_ENCODING", "HTTP_ACCEPT_LANGUAGE", "HTTP_CACHE_CONTROL", "HTTP_CONNECTION", "HTTP_KEEP_ALIVE", "HTTP_PRAGMA",
        "HTTP_PRIORITY", "HTTP_REFERER", "HTTP_TRACEPARENT", "HTTP_TRACESTATE", "HTTP_USER_AGENT", "HTTP_VIA", "HTTP_X_FORWARDED_FOR",
        "HTTP_X_REQUEST_ID",
    }
)  # fmt: skip
"""Header fields that change nothing in a response, apart from the ids. A request with any other field goes the usual way."""

JSON = frozenset({"", "*/*", "application/json"})
"""The values of Accept that are answered here."""

KNOWN = MATTERS | IGNORED

MIDDLEWARE = frozenset(
    {
        "chassis.http.errors.ProblemMiddleware",
        "chassis.http.forwarded.ForwardedMiddleware",
        "chassis.http.origins.ContentSecurityPolicyMiddleware",
        "chassis.http.origins.CrossSiteMiddleware",
        "chassis.http.requests.RefusalMiddleware",
        "chassis.http.static.StaticFilesMiddleware",
        "chassis.observability.middleware.CorrelationMiddleware",
        "chassis.observability.requests.RequestMetricsMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "chassis.observability.http_spans.SampledRequests",
    }
)
"""Middleware that can be left out. With any other, each request goes the usual way."""

MOST_REMEMBERED = 1_000
"""When there are so many kinds of requests, those that are known are forgotten."""

MOST_CHARACTERS = 1_000
"""Requests whose values of MATTERS are longer go the usual way: a client must not be able to fill the memory."""


class Known(NamedTuple):
    """What a response has besides its object; no fields if such requests go the usual way."""

    fields: Fields
    link: Link


class Place(NamedTuple):
    """The position of a request's span, and of its parent."""

    span: TraceContext
    parent: TraceContext
    is_recorded: bool


class PlainReads:
    """WSGI middleware: answers plain reads, and passes every other request to the application `usual`."""

    def __init__(self, usual: Application, patterns: Iterable[tuple[str, URLPattern]]) -> None:
        """`patterns` are the URL patterns of the service with their complete routes."""
        self._usual = usual
        self._reads = dict(plain_views.reads(patterns)) if MIDDLEWARE.issuperset(settings.MIDDLEWARE) else {}
        self._known: dict[tuple[Any, ...], Known] = {}
        self._has_own_spans = tracing.is_recording() and _http_spans().has_own_attributes()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Process the request."""
        read, key = self._route(environ.get("PATH_INFO", ""))
        query = environ.get("QUERY_STRING", "")
        if read is None or not read.accepts(query) or not is_plain(environ):
            return self._usual(environ, start_response)
        place = Place(*tracing.position(environ.get("HTTP_TRACEPARENT", ""), environ.get("HTTP_TRACESTATE", "")))
        # None where a value is missing: that may differ from an empty one.
        values = [environ.get(name) for name in MATTERS]
        kind = (read.route, query, *values)
        known = self._known.get(kind)
        with tracing.sampling_decided() if place.is_recorded else nullcontext():
            if known is None and sum(len(value) for value in values if value) <= MOST_CHARACTERS:
                return self._learn(kind, read, key, environ, start_response)
            if known and known.fields and not (place.is_recorded and self._has_own_spans):
                answer = _answer(read, key, known, place, environ, start_response)
                if answer is not None:
                    return answer
            return self._usual(environ, start_response)

    def _route(self, path: str) -> tuple[Read | None, str]:
        """How this path is read, and the key at its end."""
        if (read := self._reads.get(path)) is not None:
            return read, ""
        prefix, slash, key = path.rpartition("/")
        return self._reads.get(prefix + slash), key

    def _learn(
        self, kind: tuple[Any, ...], read: Read, key: str, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer in the usual way, and remember the response if the answer from here would have been the same."""
        query = environ.get("QUERY_STRING", "")
        given: list[Any] = []

        def started(status: str, fields: Fields, *more: Any) -> Any:
            given[:] = [status, fields]
            return start_response(status, fields, *more)

        response = self._usual(environ, started)
        body = b"".join(response)
        status, fields = given
        # A cookie is for one client.
        is_general = status.startswith("200 ") and not any(name == "Set-Cookie" for name, _ in fields)
        link = read.link(body) if is_general else None
        if link is not None:
            with bind_request_id(dict(fields).get(HEADER, "")):
                ours = read.read(key, query, link)
                is_same = ours is not None and ours.body == body and _fields(ours, fields) == fields
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[kind] = Known(fields if is_same else [], link)
        return Closing(body, getattr(response, "close", lambda: None))


class Closing(list[bytes]):
    """A body whose `close`, which the server calls after it has been sent, is a function."""

    def __init__(self, body: bytes, close: Callable[[], object]) -> None:
        super().__init__([body])
        self.close = close


def is_plain(environ: Environ) -> bool:
    """Whether neither a middleware nor the view acts on anything in the request but its path, its query, MATTERS and IGNORED."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ.get("HTTP_ACCEPT", "") in JSON
        and environ.get("CONTENT_LENGTH", "") in {"", "0"}
        and not environ.get("CONTENT_TYPE")
        and all(name in KNOWN for name in environ if name.startswith("HTTP_"))
    )


def _answer(
    read: Read, key: str, known: Known, place: Place, environ: Environ, start_response: StartResponse
) -> Iterable[bytes] | None:
    """Answer a request; None if that must be done in the usual way."""
    started, begun = time.perf_counter(), time.time_ns()
    request_started.send(sender=PlainReads, environ=environ)
    with (
        bind_request_id(correlation.accepted(environ.get("HTTP_X_REQUEST_ID", ""))) as request_id,
        metrics.HTTP_ACTIVE_REQUESTS.track_inprogress(),
    ):
        found = read.read(key, environ.get("QUERY_STRING", ""), known.link)
        if found is None:
            return None
        start_response("200 OK", _fields(found, known.fields))
        seconds = time.perf_counter() - started
        span = place.span
        exemplar = {"trace_id": span.trace_id} if span.is_sampled else None
        requests.observe("GET", read.route, HTTPStatus.OK, seconds, exemplar)
        line = {"method": "GET", "route": read.route, "status": 200, "duration_ms": round(seconds * 1000, 2)}
        ids = {"request_id": request_id, "trace_id": span.trace_id, "span_id": span.span_id}
        log_all("info", LOGGER, "request", [{**line, **ids}])
        if place.is_recorded:
            sql_spans.record(settings.SERVICE_DATABASE, found.sql, span, found.begun, found.ended)
            _http_spans().record(environ, read.route[1:], request_id, span, place.parent, begun)
    return Closing(found.body, partial(request_finished.send, sender=PlainReads))


def _http_spans() -> Any:
    """The module, which is imported only where spans are recorded: it takes memory."""
    from chassis.observability import http_spans

    return http_spans


def _fields(found: Representation, others: Fields) -> Fields:
    """The header fields of a response, of which `others` are those of another one."""
    validators = Validators.of_json(found.body, found.modified).headers()
    own = {**validators, "Content-Length": str(len(found.body)), HEADER: current_request_id()}
    return [(name, own.get(name, value)) for name, value in others]
