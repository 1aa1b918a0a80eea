"""Gauges that are read rather than counted, such as the number of open connections: read before each scrape.

If there are several web processes, only one of them responds to a scrape, so each reads its own every second.
"""

import threading
from collections.abc import Callable

import structlog

EVERY_SECONDS = 1.0

log = structlog.get_logger(__name__)

_samples: list[Callable[[], None]] = []


def sample(read: Callable[[], None]) -> None:
    """Call `read`, which sets gauges, before each scrape. It must not wait for anything."""
    _samples.append(read)


def take() -> None:
    """Set all sampled gauges. An error is logged, and does not affect the other gauges."""
    for read in _samples:
        try:
            read()
        except Exception:
            log.warning("a gauge cannot be read", exc_info=True)


def take_periodically() -> None:
    """Set them every second, in a separate thread."""
    threading.Thread(target=_take_forever, name="metrics", daemon=True).start()


def _take_forever() -> None:
    while True:
        take()
        _never.wait(EVERY_SECONDS)


_never = threading.Event()
