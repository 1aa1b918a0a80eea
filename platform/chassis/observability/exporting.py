"""The export of spans in a separate thread: masked, never waited for, and counted if they are lost."""

import os
import threading
import time
from collections import deque
from collections.abc import Sequence

import structlog
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

from chassis.observability import metrics, tracing
from chassis.observability.spans import Deferred, Masked

log = structlog.get_logger(__name__)

DEFAULTS = {"OTEL_BSP_MAX_QUEUE_SIZE": 2_048, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 512, "OTEL_BSP_SCHEDULE_DELAY": 5_000}
"""OpenTelemetry's variables of a batch processor, and its defaults; the delay is in milliseconds."""
SHUTDOWN_SECONDS = 30.0
"""How long the end of a process waits for the export, at most. A failed export ends it after OTEL_EXPORTER_OTLP_TIMEOUT."""


class InvalidQueue(SystemExit):
    """The variables in DEFAULTS must be positive integers."""


class Processor(SpanProcessor):
    """What receives the spans that have ended."""

    def put(self, made: ReadableSpan | Deferred) -> None:
        """Export a span, or several that are still to be made."""
        raise NotImplementedError

    def on_end(self, span: ReadableSpan) -> None:
        """Export a span."""
        self.put(span)


def processor(exporter: str) -> Processor:
    """The processor of spans for `console` or `otlp`. Raises InvalidQueue."""
    if exporter == "console":
        # One line per span, immediately, to be read together with the log or by a test.
        console = ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")
        return Immediate(Masked(console))
    sizes = _sizes()
    from chassis.observability.otlp import Exporter

    # The library's default timeout of 10 s would delay the shutdown of a process if the collector hangs.
    return Queue(Masked(Exporter(timeout=None if _has_timeout() else 2.0)), *sizes)


def _has_timeout() -> bool:
    return any(name in os.environ for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"))


def _sizes() -> list[int]:
    values = {name: os.environ.get(name, "").strip() or str(default) for name, default in DEFAULTS.items()}
    wrong = [name for name, value in values.items() if not (value.isdecimal() and int(value))]
    if wrong:
        raise InvalidQueue("\n".join(f"{name} must be a positive integer, not {values[name]!r}" for name in wrong))
    return [int(value) for value in values.values()]


class Immediate(Processor):
    """Exports each span when it ends."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def put(self, made: ReadableSpan | Deferred) -> None:
        """Export a span, or several that are still to be made."""
        with tracing.suppressed():
            self._exporter.export([made] if isinstance(made, ReadableSpan) else made.spans())

    def shutdown(self) -> None:
        """Shut down the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits."""
        return True


class Queue(Processor):
    """Exports spans in batches. A full queue drops the newest ones; all spans that are lost are counted.

    The library's BatchSpanProcessor costs the thread that ends a span several times as much, and if its queue is full, it
    drops the oldest spans, with a log line for each.
    """

    def __init__(self, exporter: SpanExporter, most: int, batch: int, delay_ms: int) -> None:
        """`most` spans wait at most; `batch` of them, or fewer after `delay_ms`, are exported together."""
        self._exporter = exporter
        self._most = most
        self._batch = min(batch, most)
        self._delay = delay_ms / 1000
        self._stopping = False
        self._start()
        os.register_at_fork(after_in_child=self._start_in_child)

    def put(self, made: ReadableSpan | Deferred) -> None:
        """Queue a span, or several that are still to be made, unless the queue is full or shut down."""
        waiting = len(self._waiting)
        if waiting >= self._most or self._stopping:
            metrics.SPANS_DROPPED.labels("export_failed" if self._stopping else "queue_full").inc(_number(made))
            return
        self._waiting.append(made)
        if waiting + 1 >= self._batch and not self._wake.is_set():
            self._wake.set()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits; False if it took too long."""
        return self._export(1, until=time.monotonic() + timeout_millis / 1000)

    def shutdown(self) -> None:
        """Export what waits, until one export fails, and end the thread."""
        if self._stopping:
            return
        self._stopping = True
        self._wake.set()
        self._thread.join(SHUTDOWN_SECONDS)
        self._exporter.shutdown()

    def _start(self) -> None:
        # Appended at the right and taken from the left: both are atomic.
        self._waiting: deque[ReadableSpan | Deferred] = deque()
        self._exporting = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
        self._thread.start()

    def _start_in_child(self) -> None:
        """The child of a fork begins with an empty queue and a thread of its own."""
        if not self._stopping:
            self._start()

    def _work(self) -> None:
        while not self._stopping:
            is_batch = self._wake.wait(self._delay)
            self._wake.clear()
            self._export(self._batch if is_batch else 1)
        self._export(1)

    def _export(self, least: int, *, until: float | None = None) -> bool:
        """Export batches while at least so many spans wait. Returns False if it stopped at the time `until`."""
        with self._exporting:
            while len(self._waiting) >= least:
                if until is not None and time.monotonic() > until:
                    return False
                batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
                if not self._is_exported(batch):
                    metrics.SPANS_DROPPED.labels("export_failed").inc(sum(map(_number, batch)))
                    if self._stopping:
                        # The others would fail too, and each attempt takes the whole timeout.
                        metrics.SPANS_DROPPED.labels("export_failed").inc(sum(map(_number, self._waiting)))
                        self._waiting.clear()
        return True

    def _is_exported(self, batch: Sequence[ReadableSpan | Deferred]) -> bool:
        try:
            made = [span for one in batch for span in ((one,) if isinstance(one, ReadableSpan) else one.spans())]
            with tracing.suppressed():
                return self._exporter.export(made) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("spans could not be exported")
            return False


def _number(made: ReadableSpan | Deferred) -> int:
    return 1 if isinstance(made, ReadableSpan) else made.number
