"""Terminates the process if a call into a library does not return: a thread that hangs in C handles no signal or exception."""

import os
import threading
import time
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5


class Watchdog:
    """A context manager around one call at a time. If the body takes longer than `limit` seconds, the process exits with status 1.

    Time during which the whole process was stopped (SIGSTOP, a suspended machine) does not count.
    """

    def __init__(self, what: str, limit: float) -> None:
        self._what = what
        self._ticks_left = 0
        self._ticks = int(limit / TICK_SECONDS) + 1
        self._watching = False
        self._thread: threading.Thread | None = None

    def within(self, limit: float) -> Self:
        """Set the limit of the next call."""
        self._ticks = int(limit / TICK_SECONDS) + 1
        return self

    def __enter__(self) -> None:
        """Start watching."""
        self._ticks_left = self._ticks
        self._watching = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._watching = False

    def _watch(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            self._ticks_left -= 1
            if self._watching and self._ticks_left < 0:
                log.critical("a call does not return, terminating the process", call=self._what)
                os._exit(1)
