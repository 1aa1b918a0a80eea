"""Reads of an object by its key, without Django's middleware and REST framework's view where both would change nothing.

A `GET` that asks for JSON and has no condition spends most of its time in layers that leave it as it is. Such a request is answered
here: the row is read and represented by the statement and the serializer of its view, and all other header fields are those of a
response of the view. Requests that differ in any field that can matter, one of MATTERS, have responses of their own. The first of
each goes the usual way, and its response is remembered if the answer from here would have been the same.

What is not known here, and every error, goes the usual way too. See docs/adr/0066-plain-reads.md.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.signals import request_finished, request_started
from django.db import DatabaseError
from django.urls import URLPattern
from rest_framework import mixins

from chassis import json
from chassis.database.prepared import ByKey
from chassis.http.conditions import ConditionalViewSet, Validators, row_by_key
from chassis.http.serializers import is_plain
from chassis.observability import correlation, requests, tracing
from chassis.observability.correlation import HEADER, bind_request_id, current_request_id
from chassis.observability.logging import log_all
from chassis.observability.middleware import LOGGER
from chassis.observability.trace_context import TraceContext

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
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
        "opentelemetry.instrumentation.django.middleware.otel_middleware._DjangoMiddleware",
    }
)
"""Middleware that can be left out. With any other, each request goes the usual way."""

MOST_REMEMBERED = 1_000

KNOWN = MATTERS | IGNORED

DECLARED = frozenset(
    {
        "__dict__", "__doc__", "__module__", "__orig_bases__", "__parameters__", "__weakref__",
        "filter_list", "lookup_field", "parser_classes", "queryset", "schema", "serializer_class",
    }
)  # fmt: skip
"""The attributes of a view that this module uses as they are, or that take no part in a read."""

ROUTE_ARGUMENTS = frozenset({"basename", "detail", "description", "name", "suffix"})
"""What a router passes to a view set; none of it takes part in a read."""


class Read(NamedTuple):
    """How the object of a route is read."""

    route: str
    rows: ByKey
    represent: Callable[[Any], Any]


class Representation(NamedTuple):
    """An object as JSON, and its validators."""

    body: bytes
    validators: Validators

    @classmethod
    def of(cls, read: Read, key: str) -> "Representation | None":
        """The object with this key; None if there is none, or if it cannot be read."""
        try:
            found = read.rows.get(key)
        except (ObjectDoesNotExist, ValidationError, DatabaseError, TypeError, ValueError):
            return None
        body = json.dumps(read.represent(found))
        return cls(body, Validators.of_json(body, found.modified_at))

    def fields(self, others: Fields) -> Fields:
        """The header fields of a response, of which `others` are those of another object."""
        own = {**self.validators.headers(), "Content-Length": str(len(self.body)), HEADER: current_request_id()}
        return [(name, own.get(name, value)) for name, value in others]


class PlainReads:
    """A WSGI application in front of another, `usual`, which it calls for everything that is not a plain read."""

    def __init__(self, usual: Application, patterns: Iterable[tuple[str, URLPattern]]) -> None:
        """`patterns` are the URL patterns of the service with their complete routes."""
        self._usual = usual
        self._reads = dict(_reads(patterns)) if MIDDLEWARE.issuperset(settings.MIDDLEWARE) else {}
        self._remembered: dict[tuple[Any, ...], Fields | None] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Process the request."""
        prefix, _, key = environ.get("PATH_INFO", "").rpartition("/")
        read = self._reads.get(prefix)
        if read is None or not is_plain_request(environ):
            return self._usual(environ, start_response)
        trace = tracing.unrecorded(environ.get("HTTP_TRACEPARENT", ""), environ.get("HTTP_TRACESTATE", ""))
        if trace is None:
            return self._usual(environ, start_response)
        kind = (read.route, *map(environ.get, MATTERS))
        if kind not in self._remembered:
            return self._remember(kind, read, key, environ, start_response)
        fields = self._remembered[kind]
        answer = None if fields is None else _answer(read, key, fields, trace, environ, start_response)
        return self._usual(environ, start_response) if answer is None else answer

    def _remember(
        self, kind: tuple[Any, ...], read: Read, key: str, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer in the usual way, and remember the fields of the response if that from here would have been the same."""
        given: list[Any] = []

        def started(status: str, fields: Fields, *more: Any) -> Any:
            given[:] = [status, fields]
            return start_response(status, fields, *more)

        response = self._usual(environ, started)
        chunks = list(response)
        status, fields = given
        if status.startswith("200 "):
            with bind_request_id(dict(fields).get(HEADER, "")):
                ours = Representation.of(read, key)
                same = ours is not None and ours.body == b"".join(chunks) and ours.fields(fields) == fields
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[kind] = fields if same else None
        return Closing(chunks, getattr(response, "close", lambda: None))


class Closing(list[bytes]):
    """A body whose `close`, which the server calls after it has been sent, is a function."""

    def __init__(self, chunks: Iterable[bytes], close: Callable[[], object]) -> None:
        super().__init__(chunks)
        self.close = close


def is_plain_request(environ: Environ) -> bool:
    """Whether neither a middleware nor the view acts on anything in the request but its path, MATTERS and IGNORED."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and not environ.get("QUERY_STRING")
        and environ.get("HTTP_ACCEPT", "") in JSON
        and environ.get("CONTENT_LENGTH", "") in {"", "0"}
        and not environ.get("CONTENT_TYPE")
        and all(name in KNOWN for name in environ if name.startswith("HTTP_"))
    )


def _answer(
    read: Read, key: str, fields: Fields, trace: TraceContext, environ: Environ, start_response: StartResponse
) -> Iterable[bytes] | None:
    """Answer a request; None if that must be done in the usual way, without a trace of this attempt."""
    started = time.perf_counter()
    offered = environ.get("HTTP_X_REQUEST_ID", "")
    request_started.send(sender=PlainReads, environ=environ)
    with bind_request_id(offered if correlation.sane(offered) else correlation.new()) as request_id:
        found = Representation.of(read, key)
        if found is None:
            return None
        start_response("200 OK", found.fields(fields))
        requests.observe("GET", read.route, HTTPStatus.OK, time.perf_counter() - started)
        line = {"method": "GET", "route": read.route, "status": 200, "duration_ms": _milliseconds(started)}
        ids = {"request_id": request_id, "trace_id": trace.trace_id, "span_id": trace.span_id}
        log_all("info", LOGGER, "request", [{**line, **ids}])
    return Closing([found.body], partial(request_finished.send, sender=PlainReads))


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


def _reads(patterns: Iterable[tuple[str, URLPattern]]) -> Iterator[tuple[str, Read]]:
    """The routes whose objects can be read here, by what stands before the key in their paths."""
    for route, pattern in patterns:
        whole = _KEYED.fullmatch(route)
        view = getattr(pattern.callback, "cls", None)
        if whole and view is not None and _is_plain_view(pattern.callback, view, whole["name"]):
            yield f"/{whole['prefix']}", Read(f"/{route}", row_by_key(view), view.serializer_class().to_representation)


_KEYED = re.compile(r"(?P<prefix>[\w/-]+)/<(?:str:|uuid:)?(?P<name>\w+)>")


def _is_plain_view(callback: Any, view: Any, argument: str) -> bool:
    """Whether a GET does what ConditionalViewSet and RetrieveModelMixin do, and nothing else."""
    if not issubclass(view, ConditionalViewSet) or callback.actions.get("get") != "retrieve":
        return False
    of_read = {*ConditionalViewSet.__mro__, *mixins.RetrieveModelMixin.__mro__}
    in_reads = {name for one in of_read for name in vars(one)}
    own = {name for one in view.__mro__ if one not in of_read for name in vars(one)}
    return (
        not own & in_reads - DECLARED
        and callback.initkwargs.keys() <= ROUTE_ARGUMENTS
        # A decorator, such as one that demands a login, looks like the view that it wraps.
        and _wrappers(callback) == _wrappers(view.as_view(dict(callback.actions)))
        and view.lookup_field == argument
        and view.queryset is not None
        and is_plain(view.serializer_class)
        and not any(
            (*view.permission_classes, *view.authentication_classes, *view.throttle_classes, *view.filter_backends)
        )
        and view.versioning_class is None
    )


def _wrappers(function: Any) -> int:
    found = 0
    while (function := getattr(function, "__wrapped__", None)) is not None:
        found += 1
    return found
