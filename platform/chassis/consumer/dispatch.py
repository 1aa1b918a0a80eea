"""From records to handlers: parse records, group events by topic, and call each handler within its time limit."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.conf import settings

from chassis.deadletters.record import FailedRecord, is_for_us
from chassis.events.envelope import Unreadable, unseal
from chassis.events.registry import Handler, Received
from chassis.kafka import raw_headers
from chassis.kafka.records import Record
from chassis.observability import metrics
from chassis.observability.bulk import observe_times
from chassis.runtime.failures import HandlerFailed, HandlerTimeout
from chassis.runtime.watchdog import Watchdog

Handlers = Mapping[str, Handler]

REPEAT_SECONDS = 1.0
"""The interval at which HandlerTimeout is raised again while the handler keeps running."""
LAST_RESORT, LAST_RESORT_SECONDS = 2, 5.0
"""The process of a handler that catches every HandlerTimeout is terminated after this many time limits plus this many seconds."""

_last_resort = Watchdog("a handler that catches HandlerTimeout", LAST_RESORT_SECONDS)


def for_this_group(batch: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Separate the records for this service from those that were redriven for another group, which it treats as duplicates."""
    mine = [record for record in batch if is_for_us(record)]
    return mine, [] if len(mine) == len(batch) else [record for record in batch if not is_for_us(record)]


def read(batch: Sequence[Record], handlers: Handlers) -> tuple[list[tuple[Record, Received[Any]]], list[FailedRecord]]:
    """Parse each record into its handler's event model. An unreadable record fails at once, since a retry would not help.

    Raises DependencyDown if the headers of a record have to be read again and the broker does not respond.
    """
    readable: list[tuple[Record, Received[Any]]] = []
    dead: list[FailedRecord] = []
    raw_headers.complete(batch)
    for record in batch:
        try:
            readable.append((record, unseal(record, handlers[record.topic].event)))
        except Unreadable as error:
            dead.append(FailedRecord(record, error, record.attempts + 1))
    return readable, dead


def call(
    received: Sequence[tuple[Record, Received[Any]]], handlers: Handlers, most_seconds: float | None = None
) -> None:
    """Call each topic's handler once, with its events in order. Its time limit is its own, and at most `most_seconds`.

    Raises HandlerFailed for anything that the handler raises: otherwise SystemExit would end the process because of one event.
    """
    by_topic: dict[str, list[Received[Any]]] = {}
    for record, one in received:
        by_topic.setdefault(record.topic, []).append(one)
    for topic, events in by_topic.items():
        handler = handlers[topic]
        limit = handler.timeout or settings.HANDLER_TIMEOUT_SECONDS
        started = time.perf_counter()
        try:
            with time_limit(limit if most_seconds is None else min(limit, most_seconds)):
                handler.function(events)
        except BaseException as error:
            raise HandlerFailed(error) from error
        per_event = (time.perf_counter() - started) / len(events)
        observe_times(metrics.PROCESS_SECONDS.labels(topic), per_event, len(events))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise HandlerTimeout in the body if it runs longer than `seconds`.

    SIGALRM also interrupts a handler in a system call. It requires the main thread, in which a worker's loop runs; in another
    thread (such as a test's) there is no limit. A body that catches HandlerTimeout receives another one every second. If it
    catches all of them, the process is terminated, since nothing else can stop it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(signum: int, frame: object) -> None:
        raise HandlerTimeout(f"the handler ran longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_SECONDS)
    try:
        with _last_resort.within(LAST_RESORT * seconds + LAST_RESORT_SECONDS):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
