"""The export of spans in a separate thread: masked, never waited for, and counted if they are lost."""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

from chassis.observability import tracing
from chassis.observability.spans import Deferred, Masked, lost

log = structlog.get_logger(__name__)

SIZES = {"OTEL_BSP_MAX_QUEUE_SIZE": 2_048, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 512, "OTEL_BSP_SCHEDULE_DELAY": 5_000}
"""OpenTelemetry's variables of a batch processor, and its defaults; the delay is in milliseconds."""
LARGEST = 10**9
TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
TIMEOUT_SECONDS = 2.0
"""The library's default of 10 s would delay the end of a process if the collector hangs."""
STOP_SECONDS, LONGEST_STOP_SECONDS = 5.0, 30.0
"""How long the end of a process waits for the export: the timeout and a second, within these limits."""


class InvalidExport(SystemExit):
    """A variable in SIZES is not an integer from 1 to LARGEST, or one in TIMEOUTS not a positive number of seconds."""


class Processor(SpanProcessor):
    """What receives the spans that have ended. It raises nothing in the thread that ended them."""

    def put(self, made: ReadableSpan | Deferred) -> None:
        """Export a span, or several that are still to be made."""
        raise NotImplementedError

    def on_end(self, span: ReadableSpan) -> None:
        """Export a span."""
        self.put(span)


def processor(exporter: str) -> Processor:
    """The processor of spans for `console` or `otlp`. Raises InvalidExport."""
    if exporter == "console":
        # One line per span, immediately, to be read together with the log or by a test.
        console = ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")
        return Immediate(Masked(console))
    sizes, timeout = _settings()
    from chassis.observability.otlp import Exporter

    process = os.getpid()
    return Queue(lambda: Masked(Exporter(timeout), configured_in=process), *sizes, stop_seconds=timeout + 1)


def _settings() -> tuple[list[int], float]:
    """The values of SIZES, and the timeout of an export in seconds."""
    values = {name: os.environ.get(name, "").strip() or str(default) for name, default in SIZES.items()}
    wrong = [
        f"{name} must be an integer from 1 to {LARGEST - 1}, not {value[:40]!r}"
        for name, value in values.items()
        if not (value.isascii() and value.isdecimal() and len(value) < len(str(LARGEST)) and int(value))
    ]
    timeouts = {name: value for name in TIMEOUTS if (value := os.environ.get(name, "").strip())}
    wrong += [
        f"{name} must be a positive number of seconds, not {value[:40]!r}"
        for name, value in timeouts.items()
        if not 0 < _float(value) < LARGEST
    ]
    if wrong:
        raise InvalidExport("\n".join(wrong))
    timeout = next(map(_float, timeouts.values()), TIMEOUT_SECONDS)
    return [int(value) for value in values.values()], timeout


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


class Immediate(Processor):
    """Exports each span when it ends."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def put(self, made: ReadableSpan | Deferred) -> None:
        """Export a span, or several that are still to be made."""
        spans = _made([made])
        if not _is_exported(self._exporter, spans):
            lost("export_failed", len(spans))

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

    def __init__(
        self, exporter: Callable[[], SpanExporter], most: int, batch: int, delay_ms: int, *, stop_seconds: float = 0.0
    ) -> None:
        """At most `most` spans, or requests of which they are made, wait. They are exported in batches of `batch` spans.

        Fewer are exported after `delay_ms`. `exporter` makes the exporter, also in the child of a fork, which must not use the
        connections of its parent. `stop_seconds` is how long shutdown waits, within STOP_SECONDS and LONGEST_STOP_SECONDS.
        """
        self._new_exporter = exporter
        self._most = most
        self._batch = min(batch, most)
        self._delay = delay_ms / 1000
        self._stop_seconds = min(max(stop_seconds, STOP_SECONDS), LONGEST_STOP_SECONDS)
        self._stopping = self._has_ended = False
        self._start()
        os.register_at_fork(after_in_child=self._start_in_child)

    def put(self, made: ReadableSpan | Deferred) -> None:
        """Queue a span, or several that are still to be made, unless the queue is full or shut down."""
        waiting = len(self._waiting)
        if waiting >= self._most or self._stopping:
            lost("export_failed" if self._stopping else "queue_full", _number(made))
            return
        self._waiting.append(made)
        if self._has_ended:
            self._give_up()
        elif waiting + 1 >= self._batch and not self._wake.is_set():
            self._wake.set()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits; False if it took too long."""
        return self._export(1, until=time.monotonic() + timeout_millis / 1000)

    def shutdown(self) -> None:
        """Export what waits, until one export fails or takes too long, and end the thread."""
        if self._stopping:
            return
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:  # a fork may have been unable to start it
            self._thread.join(self._stop_seconds)
        self._has_ended = True
        self._give_up()
        self._finish(self._in_progress, exported=False)
        self._exporter.shutdown()

    def _start(self) -> None:
        # Appended at the right and taken from the left: both are atomic.
        self._waiting: deque[ReadableSpan | Deferred] = deque()
        self._exporter = self._new_exporter()
        self._exporting = threading.Lock()
        self._finishing = threading.Lock()
        self._in_progress: list[ReadableSpan] = []
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
        self._thread.start()

    def _start_in_child(self) -> None:
        """The child of a fork begins with an empty queue, and its own thread and connections."""
        if not self._stopping:
            self._start()

    def _work(self) -> None:
        while not self._stopping:
            is_batch = self._wake.wait(self._delay)
            self._wake.clear()
            self._export(self._batch if is_batch else 1)
        self._export(1)

    def _export(self, least: int, *, until: float = math.inf) -> bool:
        """Export batches while at least so many spans wait. Returns False if it stopped at the time `until`."""
        while True:
            seconds = until - time.monotonic()
            if seconds <= 0 or not self._exporting.acquire(timeout=-1 if seconds == math.inf else seconds):
                return False
            try:
                if len(self._waiting) < least:
                    return True
                spans = self._in_progress = _made(self._take())
                exported = _is_exported(self._exporter, spans)
                self._finish(spans, exported=exported)
            finally:
                self._exporting.release()
            if not exported and self._stopping:
                self._give_up()  # the others would fail too, and each attempt takes the whole timeout

    def _take(self) -> list[ReadableSpan | Deferred]:
        batch: list[ReadableSpan | Deferred] = []
        spans = 0
        while spans < self._batch and (made := self._next()) is not None:
            batch.append(made)
            spans += _number(made)
        return batch

    def _next(self) -> ReadableSpan | Deferred | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _finish(self, spans: list[ReadableSpan], *, exported: bool) -> None:
        """Count a batch if it is lost, once: shutdown may have given it up before its export ended."""
        with self._finishing:
            if spans is not self._in_progress:
                return
            self._in_progress = []
        if not exported:
            lost("export_failed", len(spans))

    def _give_up(self) -> None:
        """Count what still waits as lost."""
        while (made := self._next()) is not None:
            lost("export_failed", _number(made))


def _made(batch: Sequence[ReadableSpan | Deferred]) -> list[ReadableSpan]:
    """The spans of a batch. What cannot be made is counted as lost."""
    spans: list[ReadableSpan] = []
    for one in batch:
        try:
            spans += (one,) if isinstance(one, ReadableSpan) else one.spans()
        except Exception:
            log.exception("a span cannot be made")
            lost("export_failed", _number(one))
    return spans


def _is_exported(exporter: SpanExporter, spans: Sequence[ReadableSpan]) -> bool:
    try:
        if not spans:
            return True
        with tracing.suppressed():
            return exporter.export(spans) is SpanExportResult.SUCCESS
    except BaseException:  # no error may end the thread of the export
        log.exception("spans cannot be exported")
        return False


def _number(made: ReadableSpan | Deferred) -> int:
    return 1 if isinstance(made, ReadableSpan) else made.number
