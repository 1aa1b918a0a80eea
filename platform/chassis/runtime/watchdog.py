"""Ends the process when a call into a library does not come back: a thread that hangs in C hears no signal and no exception."""

import os
import threading
import time
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5


class Watchdog:
    """A context manager around one call at a time. When the body takes longer than `limit` seconds the process ends, status 1.

    Time in which the whole process stood still (SIGSTOP, a machine that slept) does not count: nothing hung then.
    """

    def __init__(self, what: str, limit: float) -> None:
        self._what = what
        self._ticks_left = 0
        self._ticks = int(limit / TICK_SECONDS) + 1
        self._watching = False
        self._thread: threading.Thread | None = None

    def within(self, limit: float) -> Self:
        """Watch the next call with another limit."""
        self._ticks = int(limit / TICK_SECONDS) + 1
        return self

    def __enter__(self) -> None:
        """Begin to watch."""
        self._ticks_left = self._ticks
        self._watching = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It came back."""
        self._watching = False

    def _watch(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            self._ticks_left -= 1
            if self._watching and self._ticks_left < 0:
                log.critical("a call does not come back, ending the process", call=self._what)
                os._exit(1)
