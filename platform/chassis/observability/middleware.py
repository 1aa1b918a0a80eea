"""The id and the trace of each request, and its line in the access log."""

import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, Literal, cast

import structlog
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from chassis.observability import correlation, tracing
from chassis.observability.logging import log_all

PROBES = ("/health/", "/metrics")

STAFF = "/staff/"
"""Where a service serves its staff, and tools that poll: these are no requests of clients, and have no traces and metrics. The
gateway, which is an ASGI application, has no such pages."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OTHER = "_OTHER"
"""Logged in place of an unknown method, as in OpenTelemetry, since a client may send any text."""

LOGGER = "access"

Level = Literal["debug", "info", "warning"]
GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class Middleware:
    """A middleware that works under WSGI and under ASGI."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        self.unobserved = PROBES if self.is_async else (*PROBES, STAFF)
        if self.is_async:
            markcoroutinefunction(cast(Callable[..., object], self))


def method_of(request: HttpRequest) -> str:
    """The method of a request, or OTHER."""
    return request.method if request.method in METHODS else OTHER


class CorrelationMiddleware(Middleware):
    """Gives every request an id (the client's, if it is valid) and a trace. Both are logged, and the id is returned.

    If the OpenTelemetry instrumentation has already started a span, that one is used. The access log contains the route, but
    not the path or the query string, which may contain personal data.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Process the request."""
        if self.is_async:
            return self._answer_async(request)
        started = time.perf_counter()
        with ExitStack() as stack:
            is_own = self._enter(stack, request)
            return self._leave(request, cast(HttpResponseBase, self.get_response(request)), started, is_own)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        with ExitStack() as stack:
            is_own = self._enter(stack, request)
            response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
            return self._leave(request, response, started, is_own)

    def _enter(self, stack: ExitStack, request: HttpRequest) -> bool:
        """Bind the ids of the request. Returns whether its span was started here, and not by the instrumentation."""
        offered = request.META.get("HTTP_X_REQUEST_ID", "")
        structlog.contextvars.clear_contextvars()
        stack.enter_context(correlation.bind_request_id(correlation.accepted(offered)))
        if request.path_info.startswith(self.unobserved):
            stack.enter_context(tracing.untraced())
        elif not trace.get_current_span().get_span_context().is_valid:
            method = request.method if request.method in METHODS else "HTTP"
            stack.enter_context(tracing.continued(carrier(request), method))
            return True
        return False

    def _leave(
        self, request: HttpRequest, response: HttpResponseBase, started: float, is_own: bool
    ) -> HttpResponseBase:
        response.headers[correlation.HEADER] = correlation.current_request_id()
        failed = response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        match = request.resolver_match
        self._describe(request, response, is_own)
        level: Level = "debug" if self._is_poll(request, response) else "warning" if failed else "info"
        _log(
            level,
            method=method_of(request),
            route=f"/{match.route}" if match else None,
            status=response.status_code,
            duration_ms=round((time.perf_counter() - started) * 1000, 2),
        )
        return response

    def _is_poll(self, request: HttpRequest, response: HttpResponseBase) -> bool:
        """Whether it arrives every few seconds: changes of health, and what staff decide or reveal, are logged separately."""
        if request.path_info.startswith(PROBES):
            return True
        read = request.method in {"GET", "HEAD"} and response.status_code < HTTPStatus.BAD_REQUEST
        return read and request.path_info.startswith(self.unobserved)

    def _describe(self, request: HttpRequest, response: HttpResponseBase, is_own: bool) -> None:
        """Add the request's id to the recorded span, if there is one; and what the instrumentation adds to the spans it starts."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attribute("request.id", correlation.current_request_id())
        if not is_own:
            return
        method, status = method_of(request), response.status_code
        span.set_attributes(
            {"http.request.method": method, "http.response.status_code": status, "url.path": request.path_info}
        )
        if (match := request.resolver_match) is not None:
            span.update_name(f"{method} /{match.route}")
            span.set_attribute("http.route", f"/{match.route}")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)


def _log(level: Level, **fields: Any) -> None:
    if structlog.contextvars.get_contextvars():  # the view has bound values
        getattr(structlog.get_logger(LOGGER), level)("request", **fields)
        return
    trace_id, span_id = tracing.current_ids()
    ids = {"request_id": correlation.current_request_id(), "trace_id": trace_id, "span_id": span_id}
    log_all(level, LOGGER, "request", [{**fields, **ids}])


def carrier(request: HttpRequest) -> dict[str, str]:
    """The trace context that the request was sent with, for `tracing.extract`."""
    return {name: request.META[key] for name, key in _TRACE_HEADERS if key in request.META}


_TRACE_HEADERS = (("traceparent", "HTTP_TRACEPARENT"), ("tracestate", "HTTP_TRACESTATE"))
