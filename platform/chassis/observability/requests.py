"""The metrics of HTTP requests that Django handles."""

import time
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, get_resolver
from opentelemetry import trace

from chassis.observability import catalogue, metrics
from chassis.observability.middleware import Middleware, method_of

SERVER_ERRORS = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)

Observe = Callable[[float, dict[str, str] | None], None]
_bound: dict[tuple[str, str, int], Observe] = {}


class RequestMetricsMiddleware(Middleware):
    """Counts requests and measures their duration, until the response is ready to be sent.

    Probes, scrapes and the pages for staff are not counted. Each duration refers to the request's trace, if that is recorded (an exemplar).
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Process the request."""
        if self.is_async:
            return self._answer_async(request)
        if request.path_info.startswith(self.unobserved):
            return self.get_response(request)
        started = time.perf_counter()
        metrics.HTTP_ACTIVE_REQUESTS.inc()
        try:
            response = cast(HttpResponseBase, self.get_response(request))
            _observe(request, response, started)
        finally:
            metrics.HTTP_ACTIVE_REQUESTS.dec()
        return response

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        get_response = cast(Callable[[HttpRequest], Awaitable[HttpResponseBase]], self.get_response)
        if request.path_info.startswith(self.unobserved):
            return await get_response(request)
        started = time.perf_counter()
        metrics.HTTP_ACTIVE_REQUESTS.inc()
        try:
            response = await get_response(request)
            _observe(request, response, started)
        finally:
            metrics.HTTP_ACTIVE_REQUESTS.dec()
        return response


def _observe(request: HttpRequest, response: HttpResponseBase, started: float) -> None:
    match = request.resolver_match
    span = trace.get_current_span().get_span_context()
    exemplar = {"trace_id": f"{span.trace_id:032x}"} if span.trace_flags.sampled else None
    route = f"/{match.route}" if match else ""
    observe(method_of(request), route, response.status_code, time.perf_counter() - started, exemplar)


def observe(method: str, route: str, status: int, seconds: float, exemplar: dict[str, str] | None = None) -> None:
    """Count a request and its duration."""
    key = (method, route, status)
    bound = _bound.get(key)
    if bound is None:
        bound = _bound[key] = metrics.HTTP_REQUEST_SECONDS.labels(*key).observe
    bound(seconds, exemplar)


def start_at_zero() -> None:
    """Create the series of the API's server errors, so that `increase()` sees the first error of each endpoint too."""
    for route, pattern in endpoints(get_resolver().url_patterns):
        methods = [method.upper() for method in getattr(pattern.callback, "actions", None) or ()]
        catalogue.start_at_zero(
            metrics.HTTP_REQUEST_SECONDS,
            *((method, f"/{route}", str(status.value)) for method in methods for status in SERVER_ERRORS),
        )


def endpoints(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Each URL pattern with its whole route, as in `ResolverMatch.route`."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern).removeprefix("^" if prefix else "")
        if isinstance(pattern, URLResolver):
            yield from endpoints(pattern.url_patterns, route)
        else:
            yield route, pattern
