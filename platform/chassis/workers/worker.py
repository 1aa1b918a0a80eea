"""The environment of a worker's loop: its HTTP port for health checks and metrics, and its checks at startup."""

import gc
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from chassis.consumer import series as consumer_series
from chassis.database import session
from chassis.health import checks, probe, registry, worker_server
from chassis.health.heartbeat import Heartbeat, loop
from chassis.observability import catalogue, metrics
from chassis.outbox import series as outbox_series
from chassis.runtime import memory
from chassis.runtime.background import in_background
from chassis.workers.stuck import FACTOR, terminate_if_stuck

log = structlog.get_logger(__name__)

GARBAGE = (50_000, 20, 20)
"""Thresholds of Python's garbage collector, which by default runs every 700 objects: a batch creates thousands, and few cycles."""

START_SERIES = {"relay": outbox_series.start_relay, "consume": consumer_series.start_consumer}

CHECK_SECONDS = 10.0
"""The interval of health checks besides those of probes, so that their metrics are up to date without a prober."""

CONNECTIONS = {"relay": 4, "consume": 2}
"""Threads that use the database: the loop and a health check; in the relay also the gauges of the outbox and the purge."""

LEFT_SECONDS = 3.0
"""Time to exit after the main thread has ended. Python waits for other threads, such as those that an event handler started."""


@contextmanager
def serving(process: catalogue.Process, parts: Iterable[registry.Part] | None = None) -> Iterator[Heartbeat]:
    """Serve health checks and metrics on WORKER_PORT while the body, the loop of `process`, runs. Yields its heartbeat.

    `parts` are its dependencies, by default those of a relay or consumer. Raises CommandError if the worker's database
    sessions lack the required parameters.
    """
    try:
        session.check_at_start()
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from None
    gc.collect()
    gc.freeze()  # objects that exist now are permanent, so exclude them from collections
    gc.set_threshold(*GARBAGE)
    catalogue.load(settings.SERVICE_NAME)
    catalogue.export(process, has_database=settings.SERVICE_DATABASE is not None)
    if process in START_SERIES:
        START_SERIES[process]()
        metrics.DB_CONNECTION_MAX.set(CONNECTIONS[process])
    parts = registry.worker(loop, handles=process == "consume") if parts is None else list(parts)
    limit = next(part.check.limit() for part in parts if isinstance(part.check, checks.Loop))
    server = worker_server.start(parts)
    status = 1
    try:
        with (
            in_background("health", _keep_checking),
            in_background("stuck", partial(terminate_if_stuck, loop, FACTOR * limit)),
        ):
            yield loop
        status = 0
    finally:
        server.stop()
        log.info("stopped", process=process)
        threading.Thread(target=_end, args=[status], name="end", daemon=True).start()


def _keep_checking(ended: threading.Event) -> None:
    while not ended.is_set():
        probe.ready()
        memory.trim()
        ended.wait(CHECK_SECONDS)


def _end(status: int) -> None:
    """Exit the process if threads keep it running LEFT_SECONDS after the main thread has ended."""
    threading.main_thread().join()
    time.sleep(LEFT_SECONDS)
    others = [one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    log.error(
        "threads that were left behind keep this process from ending; ended without them",
        threads=sorted(others),
        hint="find what starts them in a handler of events, and have it end them, or make them daemons",
    )
    os._exit(status)
