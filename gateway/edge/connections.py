"""All client connections: their limits, eviction in favour of new ones, and one timer for their deadlines."""

import asyncio
import resource
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog

from gateway import metrics

logger = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
"""How often the deadlines of all connections are checked."""

RESERVED_DESCRIPTORS = 56
"""File descriptors for other purposes: listeners, logs, buffered bodies, documents."""


class Connected(Protocol):
    """The connection of a client."""

    address: str
    internal: bool
    """Whether it is on the internal port, which clients cannot access and which has no limits."""
    deadline: float
    """When to call `expire`, by the clock of the event loop."""

    def expire(self) -> None:
        """The deadline has passed."""

    def probe(self, now: float) -> None:
        """Check whether a half-closed connection with a pending response is still open."""

    def abort(self) -> None:
        """Close immediately, in favour of another connection."""

    def shut_down(self) -> None:
        """Close when no request is in progress."""


class Connections:
    """The connections of a process. `max_per_address` 0 means no limit, and does not apply to addresses that are `exempt`."""

    def __init__(self, *, limit: int, max_per_address: int, exempt: Callable[[str], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._all: set[Connected] = set()
        self._waiting: OrderedDict[Connected, None] = OrderedDict()
        self._by_address: Counter[str] = Counter()
        self._half_closed: set[Connected] = set()
        self._max = connection_limit(limit)
        self._max_per_address = max_per_address
        self._exempt = exempt
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(TICK_SECONDS, self._tick)
        metrics.CONNECTIONS.set_function(self.__len__)

    def __len__(self) -> int:
        return len(self._all)

    def snapshot(self) -> list[Connected]:
        """The open connections."""
        return list(self._all)

    def admit(self, client: Connected) -> bool:
        """Add a new connection. Returns False at a limit if no other connection can be closed in its favour.

        The connection that has waited longest for its client is closed, but none with a request in progress.
        """
        self._all.add(client)
        if client.internal:
            return True
        self._by_address[client.address] += 1
        # There can be several too many, since rejected connections are still open for a moment.
        capped = self._max_per_address and not self._exempt(client.address)
        while capped and self._by_address[client.address] > self._max_per_address:
            own = next((each for each in self._waiting if each.address == client.address), None)
            if not self._evict(own):
                return False
        while len(self._all) > self._max:
            if not self._evict(next(iter(self._waiting), None)):
                return False
        return True

    def remove(self, client: Connected) -> None:
        """Remove a closed connection."""
        if client not in self._all:
            return
        self._all.discard(client)
        self._waiting.pop(client, None)
        self._half_closed.discard(client)
        self._by_address[client.address] -= 1
        if not self._by_address[client.address]:
            del self._by_address[client.address]

    def mark_waiting(self, client: Connected) -> None:
        """Mark a connection that waits for its client to send a request or to read a response."""
        if client in self._all:
            self._waiting[client] = None
            self._waiting.move_to_end(client)

    def mark_working(self, client: Connected) -> None:
        """Mark a connection with a request in progress."""
        self._waiting.pop(client, None)

    def mark_half_closed(self, client: Connected) -> None:
        """Mark a connection whose client has half-closed: it waits for the response, or is gone."""
        self._half_closed.add(client)

    def close(self) -> None:
        """Stop checking deadlines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _evict(self, client: Connected | None) -> bool:
        if client is None:
            metrics.CONNECTIONS_REFUSED.inc()
            return False
        metrics.CONNECTIONS_EVICTED.inc()
        self.remove(client)
        client.abort()
        return True

    def _tick(self) -> None:
        now = self._loop.time()
        for client in [each for each in self._all if each.deadline <= now]:
            self._call(client, client.expire)
        for client in list(self._half_closed):
            self._call(client, partial(client.probe, now))
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _call(self, client: Connected, method: Callable[[], None]) -> None:
        try:
            method()
        except Exception:
            # The timer is shared, so it continues.
            logger.exception("a connection failed")
            client.abort()


def connection_limit(limit: int) -> int:
    """The limit, or as many connections as there are file descriptors: each may need a second one, to its service."""
    return max(1, min(limit, (raise_descriptor_limit() - RESERVED_DESCRIPTORS) // 2))


def raise_descriptor_limit() -> int:
    """Raise the limit of open files of this process as far as possible, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = target
    return soft
