"""One timer for all requests in progress, which ends those whose deadline has passed.

A timer per request would take a considerable part of the time of a request. Nearly all requests complete before the first
tick.
"""

import asyncio
from typing import Protocol

import structlog

TICK_SECONDS = 0.05

logger = structlog.get_logger(__name__)


class Watched(Protocol):
    """A request in progress."""

    deadline: float

    @property
    def ids(self) -> dict[str, str]:
        """The ids of a log line about it."""

    def expire(self) -> None:
        """Its deadline has passed."""

    def abort(self) -> None:
        """Close its connection."""


class Watch:
    """Ticks while requests are in progress."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, watched: Watched) -> None:
        """Start watching a request."""
        self._watched.add(watched)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def remove(self, watched: Watched) -> None:
        """Stop watching a request."""
        self._watched.discard(watched)

    def _tick(self) -> None:
        now = self._loop.time()
        for watched in [each for each in self._watched if each.deadline <= now]:
            try:
                watched.expire()
            except Exception:
                # The timer is shared, so it continues whatever happens to one request.
                logger.exception("a request could not be ended", **watched.ids)
                self._watched.discard(watched)
                watched.abort()
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick) if self._watched else None
