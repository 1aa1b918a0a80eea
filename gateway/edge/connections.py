"""All connections of clients: how many there may be, who makes room for a new one, and one clock for their deadlines."""

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
"""How often the deadlines of all connections are looked at."""

RESERVED_DESCRIPTORS = 56
"""Files that the process needs beside connections: listeners, logs, spooled bodies, documents."""


class Connected(Protocol):
    """A client's connection."""

    address: str
    internal: bool
    """Whether it came by the internal door, which no client reaches: it finds room always."""
    deadline: float
    """When `expire` is to be called, on the loop's clock."""

    def expire(self) -> None:
        """The deadline is over."""

    def probe(self, now: float) -> None:
        """It has half-closed and waits for its answer: look whether it is still there."""

    def abort(self) -> None:
        """Close at once: another needs the place."""

    def shut_down(self) -> None:
        """Close when nothing is under way any more."""


class Connections:
    """The connections of one process. A cap of 0 is none; `max_per_address` is not for an address that `exempt` is true of."""

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

    def __len__(self) -> int:
        return len(self._all)

    def snapshot(self) -> list[Connected]:
        """All that are open now."""
        return list(self._all)

    def admit(self, client: Connected) -> bool:
        """Count a new connection; False when there is no room for it, and nobody who would make room.

        Room is made by the connection that has waited for its client for the longest: none whose request is whole.
        """
        self._all.add(client)
        if client.internal:
            return True
        self._by_address[client.address] += 1
        # More than one may be too many: those that were refused are still there for a moment.
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
        """It is closed."""
        if client not in self._all:
            return
        self._all.discard(client)
        self._waiting.pop(client, None)
        self._half_closed.discard(client)
        self._by_address[client.address] -= 1
        if not self._by_address[client.address]:
            del self._by_address[client.address]

    def mark_waiting(self, client: Connected) -> None:
        """It is its client's turn: a request is not there yet, or not all of it, or its answer is not read."""
        if client in self._all:
            self._waiting[client] = None
            self._waiting.move_to_end(client)

    def mark_working(self, client: Connected) -> None:
        """It is our turn: a request is whole."""
        self._waiting.pop(client, None)

    def mark_half_closed(self, client: Connected) -> None:
        """Its client has said that it sends no more, and waits for its answer, or has left: nobody can tell."""
        self._half_closed.add(client)

    def close(self) -> None:
        """Look at no deadlines any more."""
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
            self._do(client, client.expire)
        for client in list(self._half_closed):
            self._do(client, partial(client.probe, now))
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _do(self, client: Connected, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            # The clock is everybody's: it goes on.
            logger.exception("a connection failed")
            client.abort()


def connection_limit(limit: int) -> int:
    """`most`, or as many connections as there are descriptors for: each may need one more, to its service."""
    return max(1, min(limit, (raise_descriptor_limit() - RESERVED_DESCRIPTORS) // 2))


def raise_descriptor_limit() -> int:
    """Let this process open as many files as it may; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return soft
