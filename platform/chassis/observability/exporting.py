"""The export of spans in a separate thread: masked, never waited for, and counted if they are lost."""

import os
import threading
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from chassis.observability import metrics
from chassis.observability.spans import Masked

QUEUE = 2_048
"""Maximum number of spans that wait for the exporter, unless OTEL_BSP_MAX_QUEUE_SIZE is set."""


def processor(exporter: str) -> SpanProcessor:
    """The processor of spans for `console` or `otlp`."""
    if exporter == "console":
        # One line per span, immediately, to be read together with the log or by a test.
        console = ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")
        return SimpleSpanProcessor(Masked(console))
    from chassis.observability.otlp import Exporter

    # The library's default timeout of 10 s would delay the shutdown of a process if the collector hangs.
    return Queue(Masked(Exporter(timeout=None if _has_timeout() else 2.0)))


def _has_timeout() -> bool:
    return any(name in os.environ for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"))


class Queue(BatchSpanProcessor):
    """A batch processor that drops the newest spans if its queue is full, and counts all spans that are lost.

    The library drops the oldest ones instead, with a log line for each.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._room = threading.Lock()
        self._waiting = 0
        self._most = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or QUEUE)
        super().__init__(_Counted(exporter, self._taken), max_queue_size=self._most)
        os.register_at_fork(after_in_child=self._begin_anew)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span, unless the queue is full."""
        with self._room:
            full = self._waiting >= self._most
            if not full:
                self._waiting += 1
        if full:
            metrics.SPANS_DROPPED.labels("queue_full").inc()
        else:
            super().on_end(span)

    def _taken(self, number: int) -> None:
        with self._room:
            self._waiting -= number

    def _begin_anew(self) -> None:
        # The child of a fork begins with an empty queue.
        self._room = threading.Lock()
        self._waiting = 0


class _Counted(SpanExporter):
    """Counts the spans that could not be exported. `taken` is called with the number of spans in each batch."""

    def __init__(self, inner: SpanExporter, taken: Callable[[int], None]) -> None:
        self._inner = inner
        self._taken = taken

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._taken(len(spans))
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                metrics.SPANS_DROPPED.labels("export_failed").inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)
