"""The event loop's lag: how late a timer fires while callbacks, or other programs, keep the loop from running it.

Every request waits for the loop at least once, so its lag is a part of every response time that no other metric shows.
"""

import asyncio
import time

from gateway import metrics

TICK_SECONDS = 0.05
WINDOW_SECONDS = 15.0
"""The gauge covers the current window and the previous one, so that no scrape misses a short block."""


class Lag:
    """Measures from `start` on. Sets `gateway_event_loop_lag_seconds`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = self._window_ends = 0.0
        self._worst = self._previous = 0.0

    def start(self) -> None:
        """Start the timer."""
        metrics.EVENT_LOOP_LAG.set_function(lambda: max(self._worst, self._previous))
        self._window_ends = time.monotonic() + WINDOW_SECONDS
        self._schedule()

    def _schedule(self) -> None:
        self._due = time.monotonic() + TICK_SECONDS
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._window_ends:
            self._previous, self._worst = self._worst, 0.0
            self._window_ends = now + WINDOW_SECONDS
        self._worst = max(self._worst, now - self._due)
        self._schedule()
