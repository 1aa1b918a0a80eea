"""One clock for all requests under way: ends those whose time is over.

A timer for each request would cost as much as much of the request itself; nearly all are answered before this clock
first looks at them.
"""

import asyncio
from typing import Protocol

import structlog

TICK_SECONDS = 0.05

logger = structlog.get_logger(__name__)


class Watched(Protocol):
    """A request under way."""

    deadline: float

    def expire(self) -> None:
        """Its time is over."""

    def abort(self) -> None:
        """Close its connection."""


class Watch:
    """Ticks while requests are under way, and stands still otherwise."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, watched: Watched) -> None:
        """Begin to watch."""
        self._watched.add(watched)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def remove(self, watched: Watched) -> None:
        """Watch no more."""
        self._watched.discard(watched)

    def _tick(self) -> None:
        now = self._loop.time()
        for watched in [each for each in self._watched if each.deadline <= now]:
            try:
                watched.expire()
            except Exception:
                # The clock is everybody's: it goes on, whatever the end of one request does.
                logger.exception("a request could not be ended")
                self._watched.discard(watched)
                watched.abort()
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick) if self._watched else None
