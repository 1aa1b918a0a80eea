"""The SERVER span of a request in a service, by OpenTelemetry's instrumentation of Django; only if its trace is sampled.

The instrumentation takes a tenth of a small request even if it records nothing, so an unsampled request passes it by.
"""

from contextlib import ExitStack
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.django.middleware.otel_middleware import _DjangoMiddleware

from chassis.observability import sql_spans, tracing
from chassis.observability.middleware import PROBES, STAFF, carrier


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


class Instrumentor(DjangoInstrumentor):
    """Installs the middleware above in place of the instrumentation's own."""

    _opentelemetry_middleware = f"{SampledRequests.__module__}.{SampledRequests.__qualname__}"
