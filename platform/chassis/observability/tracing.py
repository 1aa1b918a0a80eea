"""Distributed tracing: one trace from the gateway through HTTP, outbox and Kafka to the last service.

Every request has a trace id, which is propagated. Spans are recorded only with an exporter (`OTEL_TRACES_EXPORTER=console` or
`otlp`, and the other standard OTEL_* variables), and only for sampled traces: the process that starts a trace decides, in the
flag of `traceparent`, and every other process obeys. Under an unsampled parent no span object of the SDK is made. See
docs/telemetry.md.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis.imports import without
from chassis.observability.trace_context import TraceContext, new_span_id

with without("psutil"):
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from chassis.observability import resource, samplers, spans

if TYPE_CHECKING:
    from chassis.observability import exporting

EXPORTERS = ("none", "console", "otlp")
SAMPLERS = ("always_on", "always_off", "traceidratio", "ratelimiting")
"""The values of OTEL_TRACES_SAMPLER, each also with the prefix `parentbased_`. The last one is ours: see `samplers.PerSecond`."""
UNTRACED_PATHS = "health/,metrics$,/staff/"
MOST_LINKS = 1_024
"""Maximum number of links of a span: a batch is linked to each of its events."""

# Trace context only: baggage may contain anything that a client sends, and must not become part of events.
_propagator = TraceContextTextMapPropagator()
_ids = RandomIdGenerator()
_SCOPE = InstrumentationScope("chassis")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class UnknownExporter(SystemExit):
    """OTEL_TRACES_EXPORTER must be one of none, console, otlp."""


class UnknownSampler(SystemExit):
    """OTEL_TRACES_SAMPLER must be one of SAMPLERS, and OTEL_TRACES_SAMPLER_ARG a ratio from 0 to 1, or traces per second."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which new traces are recorded, and whether the gateway obeys the flag of a client's trace."""

    roots: samplers.Roots
    parent_based: bool

    @classmethod
    def of_environment(cls) -> "Sampling":
        """From OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. Raises UnknownSampler."""
        name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
        argument = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
        kind = name.removeprefix("parentbased_")
        if kind not in SAMPLERS:
            raise UnknownSampler(
                f"OTEL_TRACES_SAMPLER must be one of {', '.join(SAMPLERS)}, or parentbased_ and one of them, not {name!r}"
            )
        try:
            return cls(_roots(kind, argument), kind != name)
        except ValueError:
            wanted = "a number of traces per second" if kind == "ratelimiting" else "a ratio from 0 to 1"
            raise UnknownSampler(f"OTEL_TRACES_SAMPLER_ARG must be {wanted}, not {argument!r}") from None


def _roots(kind: str, argument: str) -> samplers.Roots:
    if kind == "ratelimiting":
        return samplers.PerSecond(float(argument))
    return samplers.Ratio(float(argument) if kind == "traceidratio" else float(kind == "always_on"))


class _State:
    """The exporter of this process; without one, nothing is recorded."""

    provider: TracerProvider | None = None
    processor: "exporting.Processor | None" = None
    sampling: Sampling | None = None


# --- configuration ---


def configure(service: str, *, version: str = "", environment: str = "", role: str = "web") -> TracerProvider:
    """Configure tracing for this process and return the provider; a second call has no effect.

    `version`, `environment` and `role` (gateway, web, relay, consume, …) become attributes of the resource, as `service` does.
    Raises UnknownExporter and UnknownSampler if the environment names an unknown exporter or sampler.
    """
    installed = trace.get_tracer_provider()
    if isinstance(installed, TracerProvider):
        return installed
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "none").strip().lower() or "none"
    if exporter not in EXPORTERS:
        raise UnknownExporter(f"OTEL_TRACES_EXPORTER must be one of {', '.join(EXPORTERS)}, not {exporter!r}")
    if exporter == "none":
        provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    else:
        provider = _recording_provider(
            exporter, resource.of(service, version=version, environment=environment, role=role)
        )
        if role != "gateway":
            _instrument(provider)
    trace.set_tracer_provider(provider)
    return provider


def _recording_provider(exporter: str, described: Resource) -> TracerProvider:
    from chassis.observability import exporting

    sampling = Sampling.of_environment()
    provider = TracerProvider(
        sampler=ParentBased(sampling.roots), resource=described, span_limits=SpanLimits(max_links=MOST_LINKS)
    )
    processor = exporting.processor(exporter)
    provider.add_span_processor(processor)
    _State.provider, _State.processor, _State.sampling = provider, processor, sampling
    return provider


def _instrument(provider: TracerProvider) -> None:
    """Instrument Django; only with an exporter, since the instrumentation takes memory even if nothing is recorded."""
    os.environ.setdefault("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", UNTRACED_PATHS)
    # The stable conventions of HTTP. Must be set before the instrumentation is imported.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    from chassis.observability.http_spans import Instrumentor

    Instrumentor().instrument(tracer_provider=provider)


def is_recording() -> bool:
    """Whether this process has an exporter."""
    return _State.provider is not None


def sampling() -> Sampling | None:
    """The sampling of this process; None without an exporter."""
    return _State.sampling


# --- propagation ---


@cache
def tracer(name: str) -> Tracer:
    """The tracer of a module: `tracer(__name__)`."""
    return trace.get_tracer(name)


def inject(carrier: dict[str, str]) -> None:
    """Write the current trace context into `carrier`, as W3C `traceparent` (and `tracestate`)."""
    _propagator.inject(carrier)


def extract(carrier: Mapping[str, str]) -> Context:
    """Read a trace context from `carrier` (lower-case keys); an empty context if there is none, or an invalid one."""
    # The usual form is parsed here, since every request has one and the library takes ten times as long.
    plain = None if "tracestate" in carrier else TraceContext.parse(carrier.get("traceparent", ""))
    return context_of(plain) if plain else _propagator.extract(carrier, context=Context())


def extract_text(traceparent: str, tracestate: str = "") -> TraceContext:
    """Read a trace context from these headers, as `extract` does, but as text; `TraceContext()` if there is none that is valid."""
    if not tracestate and (plain := TraceContext.parse(traceparent)):
        return plain
    carrier = {"traceparent": traceparent, "tracestate": tracestate} if tracestate else {"traceparent": traceparent}
    context = _propagator.extract(carrier, context=Context())
    return TraceContext.of(trace.get_current_span(context).get_span_context())


def context_of(position: TraceContext) -> Context:
    """OpenTelemetry's context for this position, received from another process; an empty one if it is not valid."""
    if not position.is_valid:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(position.to_span_context(is_remote=True)), Context())


def current() -> TraceContext:
    """The position of the current span."""
    return TraceContext.of(trace.get_current_span().get_span_context())


def ids_of(traceparent: str | None) -> tuple[str, str]:
    """The trace id and the span id of a W3C `traceparent`; two empty strings if it is missing or invalid."""
    found = TraceContext.parse(traceparent or "")
    return (found.trace_id, found.span_id) if found else ("", "")


def current_ids(context: Context | None = None) -> tuple[str, str]:
    """The hexadecimal trace id and span id of `context`, or the current one; two empty strings outside of a span."""
    span = trace.get_current_span(context).get_span_context()
    return (f"{span.trace_id:032x}", f"{span.span_id:016x}") if span.is_valid else ("", "")


# --- spans ---


def is_sampled(context: Context | None = None) -> bool:
    """Whether spans under `context`, or the current one, are recorded."""
    return _State.provider is not None and trace.get_current_span(context).get_span_context().trace_flags.sampled


def begin(name: str, parent: Context, kind: SpanKind, links: Sequence[Link] = ()) -> tuple[Span, Context]:
    """Start a span under `parent`, and return it with a context in which it is current. The caller ends it.

    If it is not recorded, only its ids are generated, so that propagated contexts contain them.
    """
    span: Span
    unrecorded = unsampled(parent)
    if unrecorded is None:
        with sampling_decided():
            span = tracer(__name__).start_span(name, context=parent, kind=kind, links=links)
    else:
        span = NonRecordingSpan(unrecorded)
    return span, trace.set_span_in_context(span, parent)


def unsampled(parent: Context) -> SpanContext | None:
    """The context of a new span under `parent` that is not recorded; None if it is to be recorded.

    Without a parent, this is the decision about a new trace; `sampling_decided` keeps it from being made twice.
    """
    above = trace.get_current_span(parent).get_span_context()
    if above.is_valid:
        if _State.provider is not None and above.trace_flags.sampled:
            return None
        return SpanContext(above.trace_id, _ids.generate_span_id(), False, above.trace_flags, above.trace_state)
    trace_id = _ids.generate_trace_id()
    if _State.sampling is not None and _State.sampling.roots.wants(trace_id):
        return None
    return SpanContext(trace_id, _ids.generate_span_id(), False)


def unrecorded_child(parent: TraceContext) -> TraceContext | None:
    """The position of a new span under `parent` that is not recorded; None if it is to be recorded. As `unsampled`, in text."""
    if parent.is_valid:
        return None if _State.provider is not None and parent.is_sampled else parent.child()
    new = unsampled(Context())
    return TraceContext.of(new) if new else None


def position(traceparent: str, tracestate: str = "") -> tuple[TraceContext, TraceContext, bool]:
    """The position of the span of a request with these headers, that of its parent, and whether the span is to be recorded.

    Without a trace in the headers, this is the decision about a new one, as in `unsampled`.
    """
    parent = extract_text(traceparent, tracestate)
    if (span := unrecorded_child(parent)) is not None:
        return span, parent, False
    root = TraceContext(f"{_ids.generate_trace_id():032x}", new_span_id(), f"{_SAMPLED:02x}")
    return parent.child() if parent.is_valid else root, parent, True


@contextmanager
def sampling_decided() -> Iterator[None]:
    """Record a trace that starts in the body, since it has already been decided."""
    token = samplers.already_sampled.set(True)
    try:
        yield
    finally:
        samplers.already_sampled.reset(token)


@contextmanager
def continued(carrier: Mapping[str, str], name: str, *, kind: SpanKind = SpanKind.SERVER) -> Iterator[Span]:
    """Run the body in a span whose parent is in `carrier`, or in a new trace if there is none."""
    span, context = begin(name, extract(carrier), kind)
    token = attach(context)
    try:
        yield span
    except Exception as error:
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        detach(token)
        span.end()


def id_of(*parts: str) -> int:
    """A span id that is a function of names, so that another process can link to the span without being told its id."""
    return int.from_bytes(blake2b("/".join(parts).encode("utf-8", "replace"), digest_size=8).digest()) or 1


def ended(
    name: str,
    kind: SpanKind,
    *,
    trace_id: int,
    span_id: int,
    parent: SpanContext | None,
    begun: int,
    ended: int,
    attributes: Mapping[str, Any],
    events: Sequence[Event] = (),
    links: Sequence[Link] = (),
    error: str | None = None,
    clean: bool = False,
) -> ReadableSpan:
    """A span that has ended, times in nanoseconds since the epoch; `error` is the description of a failure.

    `clean`: no text in it can contain personal data, so it need not be masked (see `spans.CleanSpan`).
    """
    assert _State.provider is not None, "nothing is recorded"
    kind_of_span = spans.CleanSpan if clean else ReadableSpan
    return kind_of_span(
        name,
        SpanContext(trace_id, span_id, False, _SAMPLED),
        parent,
        _State.provider.resource,
        attributes,
        events,
        links,
        kind,
        status=Status() if error is None else Status(StatusCode.ERROR, error or None),
        start_time=begun,
        end_time=ended,
        instrumentation_scope=_SCOPE,
    )


def emit(made: "ReadableSpan | spans.Deferred") -> None:
    """Record a span that has ended, or several that are still to be made. Call it only if the trace is sampled.

    Costs a fraction of a span that is open while the work is done.
    """
    assert _State.processor is not None, "nothing is recorded"
    _State.processor.put(made)


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
