"""The SERVER span of a request in a service, by OpenTelemetry's instrumentation of Django; only if its trace is sampled.

The instrumentation takes a tenth of a small request even if it records nothing, so an unsampled request passes it by.
"""

import os
import time
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.django.middleware.otel_middleware import _DjangoMiddleware
from opentelemetry.instrumentation.wsgi import collect_request_attributes
from opentelemetry.trace import SpanKind

from chassis.observability import sql_spans, tracing
from chassis.observability.middleware import PROBES, STAFF, carrier
from chassis.observability.trace_context import TraceContext


class SampledRequests(_DjangoMiddleware):
    """The instrumentation's middleware for sampled requests, and only a context with ids for others."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        if request.path_info.startswith((*PROBES, STAFF)):
            return cast(HttpResponseBase, self.get_response(request))
        parent = tracing.extract(carrier(request))
        unsampled = tracing.unsampled(parent)
        if unsampled is None:
            with ExitStack() as stack:
                if settings.SERVICE_DATABASE:
                    stack.enter_context(sql_spans.recorded(settings.SERVICE_DATABASE))
                return cast(HttpResponseBase, super().__call__(request))  # type: ignore[no-untyped-call]
        token = attach(trace.set_span_in_context(trace.NonRecordingSpan(unsampled), parent))
        try:
            return cast(HttpResponseBase, self.get_response(request))
        finally:
            detach(token)

    def process_request(self, request: HttpRequest) -> None:
        """Start the span."""
        with tracing.sampling_decided():
            super().process_request(request)  # type: ignore[no-untyped-call]

    def process_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Add the route."""
        if self._environ_span_key in request.META:
            super().process_view(request, *args, **kwargs)  # type: ignore[no-untyped-call]

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Record the exception."""
        if self._environ_span_key in request.META:
            super().process_exception(request, exception)  # type: ignore[no-untyped-call]


def record(
    environ: dict[str, Any], route: str, request_id: str, span: TraceContext, parent: TraceContext, begun: int
) -> None:
    """Record the span of a `GET` that the middleware above did not see, and that succeeded just now; in nanoseconds since the epoch.

    Its name and its attributes are those of the middleware.
    """
    attributes = collect_request_attributes(environ, SampledRequests._sem_conv_opt_in_mode)
    place = span.to_span_context(is_remote=False)
    tracing.emit(
        tracing.ended(
            f"GET {route}",
            SpanKind.SERVER,
            trace_id=place.trace_id,
            span_id=place.span_id,
            parent=parent.to_span_context(is_remote=True) if parent.is_valid else None,
            begun=begun,
            ended=time.time_ns(),
            attributes={
                **attributes,
                "http.route": route,
                "http.response.status_code": int(HTTPStatus.OK),
                "request.id": request_id,
            },
        )
    )


def has_own_attributes() -> bool:
    """Whether variables of OpenTelemetry demand attributes that only the middleware adds."""
    return any(name.startswith(_OWN) for name in os.environ)


_OWN = ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_", "OTEL_PYTHON_DJANGO_TRACED_REQUEST_ATTRS")


class Instrumentor(DjangoInstrumentor):
    """Installs the middleware above in place of the instrumentation's own."""

    _opentelemetry_middleware = f"{SampledRequests.__module__}.{SampledRequests.__qualname__}"
