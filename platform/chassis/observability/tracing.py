"""Distributed tracing: one trace from the gateway through HTTP, outbox and Kafka to the last service.

The SDK is always there, so every request has a trace id and passes it on. Only with an exporter
(`OTEL_TRACES_EXPORTER=console` or `otlp`, and the other standard OTEL_* variables) are spans recorded, and only then
are the exporter and the instrumentations imported. Without one a span costs some microseconds and keeps nothing.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis.imports import without

with without("psutil"):
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

    from chassis.observability import spans

EXPORTERS = ("none", "console", "otlp")
UNTRACED_PATHS = "health/,metrics$"

# Trace context only: baggage is whatever a client cares to send, and must not end up in the events.
_propagator = TraceContextTextMapPropagator()
_PLAIN = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_ids = RandomIdGenerator()


class UnknownExporter(SystemExit):
    """OTEL_TRACES_EXPORTER must be one of none, console, otlp."""


def configure(service: str, *, processor: SpanProcessor | None = None) -> TracerProvider:
    """Set up tracing for this process and return the provider; a second call changes nothing.

    `processor` receives the spans instead of the exporter that the environment names.
    Raises UnknownExporter when the environment names one that we do not have.
    """
    installed = trace.get_tracer_provider()
    if isinstance(installed, TracerProvider):
        return installed
    processor = processor or _processor(os.environ.get("OTEL_TRACES_EXPORTER", "none").strip().lower() or "none")
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or service})
    if processor is None:
        provider = TracerProvider(sampler=ALWAYS_OFF, resource=resource, shutdown_on_exit=False)
    else:
        processor = spans.Masked(processor)
        # Without a sampler of ours the standard variables OTEL_TRACES_SAMPLER and _ARG choose one.
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(processor)
        _instrument(provider, processor, resource)
    trace.set_tracer_provider(provider)
    return provider


def _processor(exporter: str) -> SpanProcessor | None:
    if exporter == "none":
        return None
    if exporter == "console":
        # One line a span, at once: made to be read beside the log, or by a test.
        return SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n"))
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        # Exports from a thread of its own, which starts again after a fork; a full queue drops spans. The library's
        # patience of 10 s with a collector that hangs would be added to every stop of a process.
        return BatchSpanProcessor(OTLPSpanExporter(timeout=None if _has_timeout() else 2.0))
    raise UnknownExporter(f"OTEL_TRACES_EXPORTER must be one of {', '.join(EXPORTERS)}, not {exporter!r}")


def _has_timeout() -> bool:
    return any(name in os.environ for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"))


def _instrument(provider: TracerProvider, processor: SpanProcessor, resource: Resource) -> None:
    """Let the libraries make their spans; only called with an exporter, as they cost time even when nothing records."""
    os.environ.setdefault("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", UNTRACED_PATHS)
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

    DjangoInstrumentor().instrument(tracer_provider=provider)
    # A statement belongs to a trace, it does not start one: else probes and polls would be traces of one SELECT.
    statements = TracerProvider(sampler=ParentBased(root=ALWAYS_OFF), resource=resource, shutdown_on_exit=False)
    statements.add_span_processor(processor)
    PsycopgInstrumentor().instrument(tracer_provider=statements)


def tracer(name: str) -> Tracer:
    """The tracer of one module: `tracer(__name__)`."""
    return trace.get_tracer(name)


def inject(carrier: dict[str, str]) -> None:
    """Write the current trace context into `carrier`, as W3C `traceparent` (and `tracestate`)."""
    _propagator.inject(carrier)


def extract(carrier: Mapping[str, str]) -> Context:
    """Read a trace context from `carrier` (lower-case keys); an empty context when there is none or a broken one."""
    # The usual form is read here: every event has one, and the library takes ten times as long.
    plain = None if "tracestate" in carrier else _PLAIN.fullmatch(carrier.get("traceparent", ""))
    if plain is None:
        return _propagator.extract(carrier, context=Context())
    trace_id, span_id, flags = (int(part, 16) for part in plain.groups())
    span = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return trace.set_span_in_context(NonRecordingSpan(span), Context()) if span.is_valid else Context()


def begin(name: str, parent: Context, kind: SpanKind) -> tuple[Span, Context]:
    """Start a span under `parent`, and return it with the context that has it as its own; the caller ends it.

    Without an exporter nothing is recorded, but ids are made: what is sent on names the span that it comes from.
    """
    if getattr(trace.get_tracer_provider(), "sampler", None) is not ALWAYS_OFF:
        span = tracer(__name__).start_span(name, context=parent, kind=kind)
        return span, trace.set_span_in_context(span, parent)
    above = trace.get_current_span(parent).get_span_context()
    trace_id = above.trace_id if above.is_valid else _ids.generate_trace_id()
    made = SpanContext(trace_id, _ids.generate_span_id(), False, above.trace_flags, above.trace_state)
    unrecorded = NonRecordingSpan(made)
    return unrecorded, trace.set_span_in_context(unrecorded, parent)


def current_ids(context: Context | None = None) -> tuple[str, str]:
    """Trace id and span id in hexadecimal, of `context` or the current one; two empty strings outside any span."""
    span = trace.get_current_span(context).get_span_context()
    return (f"{span.trace_id:032x}", f"{span.span_id:016x}") if span.is_valid else ("", "")


@contextmanager
def continued(carrier: Mapping[str, str], name: str, *, kind: SpanKind = SpanKind.SERVER) -> Iterator[Span]:
    """Run the body in a span whose parent stands in `carrier`, or in a new trace when none does."""
    span = tracer(__name__).start_span(name, context=extract(carrier), kind=kind)
    with trace.use_span(span, end_on_exit=True):
        yield span


@contextmanager
def untraced() -> Iterator[None]:
    """Run the body outside any trace: what it does belongs to no request."""
    token = attach(trace.set_span_in_context(trace.INVALID_SPAN))
    try:
        yield
    finally:
        detach(token)


@contextmanager
def suppressed() -> Iterator[None]:
    """Run the body without spans from the instrumentations: probes, polls, and other noise."""
    # Without an exporter nothing is instrumented, and nothing of it is imported.
    utils = sys.modules.get("opentelemetry.instrumentation.utils")
    with utils.suppress_instrumentation() if utils else nullcontext():
        yield
