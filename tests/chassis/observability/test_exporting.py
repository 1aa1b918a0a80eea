"""The queue of spans: batches, a limit, the end of the process, forks; nothing is lost without being counted."""

import os
import threading
import time
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from chassis.observability import exporting, metrics
from tests.chassis.observability.test_tracing import _python
from tests.waiting import eventually

NEVER_MS = 3_600_000


class Collector(SpanExporter):
    """Keeps the names in each batch. It can be closed, fail, or raise an error."""

    def __init__(self):
        self.batches: list[list[str]] = []
        self.opened = threading.Event()
        self.opened.set()
        self.asked = 0
        self.result = SpanExportResult.SUCCESS
        self.error = None
        self.is_shut_down = False

    def export(self, spans):
        self.asked += 1
        assert self.opened.wait(60)
        if self.error:
            raise self.error
        if self.result is SpanExportResult.SUCCESS:
            self.batches.append([span.name for span in spans])
        return self.result

    def shutdown(self):
        self.is_shut_down = True

    @property
    def names(self):
        return [name for batch in list(self.batches) for name in batch]


@contextmanager
def queue(collector, most=10_000, batch=10, delay_ms=NEVER_MS):
    made = exporting.Queue(lambda: collector, most, batch, delay_ms)
    yield made
    collector.opened.set()
    made.shutdown()


@pytest.fixture
def collector():
    return Collector()


@pytest.fixture
def dropped():
    """How many spans have been counted as lost since the test began, by reason."""
    counters = {reason: metrics.SPANS_DROPPED.labels(reason)._value for reason in ("queue_full", "export_failed")}
    before = {reason: one.get() for reason, one in counters.items()}
    return lambda: {reason: int(one.get() - before[reason]) for reason, one in counters.items()}


class Pair:
    """Two spans that are made when they are exported."""

    number = 2

    def __init__(self, name):
        self._name = name

    def spans(self):
        assert threading.current_thread().name == "spans", "made where a request would wait for it"
        return [ReadableSpan(f"{self._name}{one}") for one in "ab"]


def end(target, *numbers):
    for number in numbers:
        target.on_end(ReadableSpan(str(number)))


def names(*numbers):
    return [str(number) for number in numbers]


def test_a_full_batch_is_exported_at_once(collector):
    with queue(collector) as spans:
        end(spans, *range(25))
        eventually(lambda: len(collector.names) == 20)
        assert collector.names == names(*range(20))
    assert collector.names == names(*range(25)), "the rest, at shutdown"
    assert max(map(len, collector.batches)) == 10


def test_fewer_are_exported_after_the_delay(collector):
    with queue(collector, delay_ms=20) as spans:
        end(spans, 1, 2, 3)
        eventually(lambda: collector.names == names(1, 2, 3))


def test_flushing_exports_all(collector):
    with queue(collector) as spans:
        end(spans, *range(7))
        assert spans.force_flush()
        assert collector.names == names(*range(7))


@pytest.mark.parametrize("milliseconds", [-1, 50])
def test_flushing_stops_at_its_time_limit_also_while_the_thread_exports(collector, milliseconds):
    collector.opened.clear()
    with queue(collector, batch=1) as spans:
        end(spans, 1)
        eventually(lambda: collector.asked)
        end(spans, 2)
        assert not spans.force_flush(timeout_millis=milliseconds)
        collector.opened.set()
        assert spans.force_flush()
        assert collector.names == names(1, 2)


def test_a_full_queue_drops_the_newest_and_counts_them(collector, dropped):
    collector.opened.clear()
    with queue(collector, most=30) as spans:
        end(spans, *range(10))
        eventually(lambda: collector.asked, what="the first batch is being exported")
        end(spans, *range(10, 45))
        assert dropped() == {"queue_full": 5, "export_failed": 0}
    assert collector.names == names(*range(40))


def test_a_batch_is_never_larger_than_the_queue(collector):
    with queue(collector, most=5, batch=512) as spans:
        end(spans, *range(5))
        eventually(lambda: collector.names == names(*range(5)))


@pytest.mark.parametrize("error", [None, RuntimeError("no luck"), KeyboardInterrupt()], ids=repr)
def test_spans_that_cannot_be_exported_are_counted(collector, dropped, error):
    collector.result, collector.error = SpanExportResult.FAILURE, error
    with queue(collector) as spans:
        end(spans, *range(10))
        eventually(lambda: dropped() == {"queue_full": 0, "export_failed": 10})
        collector.result, collector.error = SpanExportResult.SUCCESS, None
        end(spans, *range(10, 20))
        eventually(lambda: collector.names == names(*range(10, 20)), what="the next batch")


def test_at_shutdown_one_failure_ends_the_export(collector, dropped):
    """A collector that hangs would otherwise delay the end of the process by its timeout for each batch."""
    collector.result = SpanExportResult.FAILURE
    collector.opened.clear()
    with queue(collector) as spans:
        end(spans, *range(10))
        eventually(lambda: collector.asked)
        end(spans, *range(10, 95))
    assert collector.asked <= 2
    assert dropped() == {"queue_full": 0, "export_failed": 95}
    assert collector.is_shut_down


def test_deferred_spans_are_made_in_the_thread_and_counted_each(collector, dropped):
    collector.opened.clear()
    with queue(collector, most=3, batch=3) as spans:
        end(spans, 1, 2, 3)
        eventually(lambda: collector.asked)
        for name in "pqrst":
            spans.put(Pair(name))
        assert dropped() == {"queue_full": 4, "export_failed": 0}
    assert collector.batches == [names(1, 2, 3), ["pa", "pb", "qa", "qb"], ["ra", "rb"]]


@pytest.mark.parametrize("stopping", [False, True])
def test_deferred_spans_that_are_lost_are_counted_each(collector, dropped, stopping):
    collector.result = SpanExportResult.FAILURE
    with queue(collector, batch=2) as spans:
        spans.put(Pair("p"))
        if not stopping:
            spans.put(Pair("q"))
            eventually(lambda: dropped() == {"queue_full": 0, "export_failed": 2}, what="a batch of two spans")
    assert dropped() == {"queue_full": 0, "export_failed": 2 if stopping else 4}


class Unmade:
    number = 2

    def spans(self):
        raise ValueError("no luck")


def test_spans_that_cannot_be_made_are_lost_alone(collector, dropped):
    with queue(collector, delay_ms=20) as spans:
        end(spans, 1)
        spans.put(Unmade())
        end(spans, 2, 3)
        eventually(lambda: collector.names == names(1, 2, 3))
    assert dropped() == {"queue_full": 0, "export_failed": 2}


def test_what_cannot_be_made_is_counted_once_even_if_the_others_cannot_be_exported(collector, dropped):
    collector.result = SpanExportResult.FAILURE
    with queue(collector) as spans:
        end(spans, 1)
        spans.put(Unmade())
        end(spans, 2)
    assert dropped() == {"queue_full": 0, "export_failed": 4}


def test_shutdown_waits_for_a_limited_time_and_counts_what_is_left(collector, dropped, monkeypatch):
    monkeypatch.setattr(exporting, "STOP_SECONDS", 0.1)
    collector.opened.clear()
    with queue(collector) as spans:
        end(spans, *range(10))
        eventually(lambda: collector.asked)
        end(spans, *range(10, 45))
        spans.shutdown()
        assert dropped() == {"queue_full": 0, "export_failed": 45}
        thread = spans._thread
    thread.join(60)
    # It was sent after all, when it had been counted.
    assert (collector.names, dropped()["export_failed"]) == (names(*range(10)), 45)


def test_a_span_that_comes_when_the_thread_has_ended_is_counted(collector, dropped):
    with queue(collector) as spans:
        spans.shutdown()
        spans._stopping = False  # as another thread saw it a moment ago
        end(spans, 1)
        spans._stopping = True
    assert (collector.names, dropped()) == ([], {"queue_full": 0, "export_failed": 1})


def test_a_metric_that_fails_disturbs_nobody(collector, monkeypatch):
    def fails(reason):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics.SPANS_DROPPED, "labels", fails)
    collector.result = SpanExportResult.FAILURE
    with queue(collector, most=10) as spans:
        end(spans, *range(10))
        eventually(lambda: collector.asked)
        collector.result = SpanExportResult.SUCCESS
        end(spans, *range(10, 20))
        eventually(lambda: collector.names == names(*range(10, 20)), what="the thread goes on")


def test_an_immediate_exporter_raises_nothing(collector, dropped):
    collector.error = OSError(9, "Bad file descriptor")
    made = exporting.Immediate(collector)
    end(made, 1)
    made.put(Unmade())
    assert dropped() == {"queue_full": 0, "export_failed": 3}


def test_an_immediate_exporter_makes_deferred_spans_at_once(collector):
    class Three:
        number = 3

        def spans(self):
            return [ReadableSpan(one) for one in "xyz"]

    made = exporting.Immediate(collector)
    made.put(Three())
    end(made, "last")
    assert (collector.batches, made.force_flush()) == ([["x", "y", "z"], ["last"]], True)
    made.shutdown()
    assert collector.is_shut_down


def test_after_shutdown_spans_are_counted_as_lost(collector, dropped):
    with queue(collector) as spans:
        pass
    end(spans, 1)
    spans.shutdown()
    assert (collector.names, dropped()) == ([], {"queue_full": 0, "export_failed": 1})


def test_from_many_threads_each_span_is_exported_or_counted(collector, dropped):
    with queue(collector, most=50, batch=20, delay_ms=1) as spans:
        threads = [
            threading.Thread(target=end, args=(spans, *range(first, first + 2_000))) for first in range(0, 8_000, 2_000)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    exported = collector.names
    assert len(exported) == len(set(exported))
    assert len(exported) + dropped()["queue_full"] == 8_000


def test_a_forked_child_begins_with_an_empty_queue_and_its_own_thread(collector):
    with queue(collector, batch=2) as spans:
        end(spans, "parent")
        received, given = os.pipe()
        if (child := os.fork()) == 0:
            end(spans, "a", "b")
            deadline = time.monotonic() + 60
            while len(collector.names) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            os.write(given, " ".join(collector.names).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(received, 100) == b"a b"
    assert collector.names == ["parent"]


def test_wrong_sizes_are_named_at_once():
    done = _python(
        "from chassis.observability import tracing; tracing.configure('x')",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_BSP_MAX_QUEUE_SIZE="many",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="0",
        OTEL_BSP_SCHEDULE_DELAY="9" * 5_000,
        OTEL_EXPORTER_OTLP_TIMEOUT="soon",
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="-1",
    )
    assert done.returncode == 1
    whole = "must be an integer from 1 to 999999999, not"
    assert done.stderr.splitlines() == [
        f"OTEL_BSP_MAX_QUEUE_SIZE {whole} 'many'",
        f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE {whole} '0'",
        f"OTEL_BSP_SCHEDULE_DELAY {whole} '{'9' * 40}'",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT must be a positive number of seconds, not '-1'",
        "OTEL_EXPORTER_OTLP_TIMEOUT must be a positive number of seconds, not 'soon'",
    ]


def test_empty_variables_are_as_unset(monkeypatch):
    for name in (*exporting.SIZES, *exporting.TIMEOUTS):
        monkeypatch.setenv(name, " ")
    assert exporting._settings() == (list(exporting.SIZES.values()), exporting.TIMEOUT_SECONDS)
