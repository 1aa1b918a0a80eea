"""Terminates a worker whose loop is stuck, so that its supervisor starts a new one: not every supervisor uses the liveness probe.

A call into librdkafka may never return: 2.16 can deadlock when it gives up its connections to all brokers (its issue 5476).
"""

import os
import sys
import threading
import traceback

import structlog

from chassis.health.heartbeat import Heartbeat

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0

FACTOR = 1.5
"""How much longer than the liveness probe this waits. A handler that catches HandlerTimeout is terminated before: see dispatch.py."""


def terminate_if_stuck(heartbeat: Heartbeat, seconds: float, ended: threading.Event) -> None:
    """Exit the process with status 1 when the loop has not beaten for so many `seconds`. Returns when `ended` is set.

    Time during which the whole process was stopped (SIGSTOP, a suspended machine) does not count.
    """
    beaten, ticks = heartbeat.last, 0
    while not ended.wait(TICK_SECONDS):
        beaten, ticks = heartbeat.last, ticks + 1 if heartbeat.last == beaten else 0
        if ticks * TICK_SECONDS > seconds:
            try:
                log.critical("the loop is stuck, terminating the process", seconds=round(seconds), where=_where())
            finally:
                os._exit(1)


def _where() -> list[str]:
    """Where the main thread is, innermost last."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # the only way to see another thread's stack
    return [f"{one.filename}:{one.lineno} {one.name}" for one in traceback.extract_stack(frame)[-8:]]
