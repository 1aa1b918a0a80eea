"""Distributed tracing: one trace from the gateway through HTTP, outbox and Kafka to the last service.

The SDK is always active, so every request has a trace id, which is propagated. Spans are recorded only with an exporter
(`OTEL_TRACES_EXPORTER=console` or `otlp`, and the other standard OTEL_* variables), and only then are the exporter and the
instrumentations imported. Without one, a span costs a few microseconds and stores nothing.
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

# Trace context only: baggage may contain anything that a client sends, and must not become part of events.
_propagator = TraceContextTextMapPropagator()
_PLAIN = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_ids = RandomIdGenerator()


class UnknownExporter(SystemExit):
    """OTEL_TRACES_EXPORTER must be one of none, console, otlp."""


def configure(service: str, *, processor: SpanProcessor | None = None) -> TracerProvider:
    """Configure tracing for this process and return the provider; a second call has no effect.

    `processor` receives the spans in place of the exporter in the environment.
    Raises UnknownExporter if the environment names an unknown exporter.
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
        # Without a sampler here, the standard variables OTEL_TRACES_SAMPLER and _ARG choose one.
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(processor)
        _instrument(provider, processor, resource)
    trace.set_tracer_provider(provider)
    return provider


def _processor(exporter: str) -> SpanProcessor | None:
    if exporter == "none":
        return None
    if exporter == "console":
        # One line per span, immediately, to be read together with the log or by a test.
        return SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n"))
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        # Exports in a separate thread, which restarts after a fork; a full queue drops spans. The library's default timeout
        # of 10 s would delay the shutdown of a process if the collector hangs.
        return BatchSpanProcessor(OTLPSpanExporter(timeout=None if _has_timeout() else 2.0))
    raise UnknownExporter(f"OTEL_TRACES_EXPORTER must be one of {', '.join(EXPORTERS)}, not {exporter!r}")


def _has_timeout() -> bool:
    return any(name in os.environ for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"))


def _instrument(provider: TracerProvider, processor: SpanProcessor, resource: Resource) -> None:
    """Instrument the libraries; only with an exporter, since instrumentation costs time even if nothing is recorded."""
    os.environ.setdefault("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", UNTRACED_PATHS)
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

    DjangoInstrumentor().instrument(tracer_provider=provider)
    # A statement must not start a trace, otherwise each probe and each poll would be a trace of a single SELECT.
    statements = TracerProvider(sampler=ParentBased(root=ALWAYS_OFF), resource=resource, shutdown_on_exit=False)
    statements.add_span_processor(processor)
    PsycopgInstrumentor().instrument(tracer_provider=statements)


def tracer(name: str) -> Tracer:
    """The tracer of a module: `tracer(__name__)`."""
    return trace.get_tracer(name)


def inject(carrier: dict[str, str]) -> None:
    """Write the current trace context into `carrier`, as W3C `traceparent` (and `tracestate`)."""
    _propagator.inject(carrier)


def extract(carrier: Mapping[str, str]) -> Context:
    """Read a trace context from `carrier` (lower-case keys); an empty context if there is none, or an invalid one."""
    # The usual form is parsed here, since every event has one and the library takes ten times as long.
    plain = None if "tracestate" in carrier else _PLAIN.fullmatch(carrier.get("traceparent", ""))
    if plain is None:
        return _propagator.extract(carrier, context=Context())
    trace_id, span_id, flags = (int(part, 16) for part in plain.groups())
    span = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return trace.set_span_in_context(NonRecordingSpan(span), Context()) if span.is_valid else Context()


def begin(name: str, parent: Context, kind: SpanKind) -> tuple[Span, Context]:
    """Start a span under `parent`, and return it with a context in which it is current. The caller ends it.

    Without an exporter nothing is recorded, but ids are generated, so that propagated contexts contain the span's id.
    """
    if getattr(trace.get_tracer_provider(), "sampler", None) is not ALWAYS_OFF:
        span = tracer(__name__).start_span(name, context=parent, kind=kind)
        return span, trace.set_span_in_context(span, parent)
    above = trace.get_current_span(parent).get_span_context()
    trace_id = above.trace_id if above.is_valid else _ids.generate_trace_id()
    made = SpanContext(trace_id, _ids.generate_span_id(), False, above.trace_flags, above.trace_state)
    unrecorded = NonRecordingSpan(made)
    return unrecorded, trace.set_span_in_context(unrecorded, parent)


def ids_of(traceparent: str | None) -> tuple[str, str]:
    """The trace id and the span id of a W3C `traceparent`; two empty strings if it is missing or invalid."""
    found = _PLAIN.fullmatch(traceparent or "")
    return (found[1], found[2]) if found and found[1].strip("0") and found[2].strip("0") else ("", "")


def current_ids(context: Context | None = None) -> tuple[str, str]:
    """The hexadecimal trace id and span id of `context`, or the current one; two empty strings outside of a span."""
    span = trace.get_current_span(context).get_span_context()
    return (f"{span.trace_id:032x}", f"{span.span_id:016x}") if span.is_valid else ("", "")


@contextmanager
def continued(carrier: Mapping[str, str], name: str, *, kind: SpanKind = SpanKind.SERVER) -> Iterator[Span]:
    """Run the body in a span whose parent is in `carrier`, or in a new trace if there is none."""
    span = tracer(__name__).start_span(name, context=extract(carrier), kind=kind)
    with trace.use_span(span, end_on_exit=True):
        yield span


@contextmanager
def untraced() -> Iterator[None]:
    """Run the body outside of any trace, since it belongs to no request."""
    token = attach(trace.set_span_in_context(trace.INVALID_SPAN))
    try:
        yield
    finally:
        detach(token)


@contextmanager
def suppressed() -> Iterator[None]:
    """Run the body without spans of the instrumentations, for probes and polls."""
    # Without an exporter, no instrumentation is imported.
    utils = sys.modules.get("opentelemetry.instrumentation.utils")
    with utils.suppress_instrumentation() if utils else nullcontext():
        yield
