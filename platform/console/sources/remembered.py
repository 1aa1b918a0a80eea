"""What each service says of itself: read again when it is old, and remembered while the service does not respond."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from console.failures import Away, NotFound
from console.sources.http import NoAnswer
from console.sources.staff import Refused

T = TypeVar("T")

FAILED_SECONDS = 3.0
"""How long a service that did not respond is left alone."""


@dataclass(frozen=True, slots=True)
class Said(Generic[T]):
    """The last answer of a service, None if there was none; `problem` is why it does not respond now."""

    value: T | None = None
    problem: str = ""


@dataclass(slots=True)
class _Copy(Generic[T]):
    said: Said[T]
    next_read: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Remembered(Generic[T]):
    """The last answers of all services to one question. Safe to use from several threads."""

    def __init__(self, services: Iterable[str], ask: Callable[[str], T], fresh_seconds: float) -> None:
        """`ask` gets a service's answer, or raises NoAnswer, Away, NotFound or Refused; it is good for `fresh_seconds`."""
        self._ask = ask
        self._fresh = fresh_seconds
        self._copies: dict[str, _Copy[T]] = {name: _Copy(Said()) for name in services}

    def known(self) -> Mapping[str, Said[T]]:
        """The answers as they were last read, without a request."""
        return {name: copy.said for name, copy in self._copies.items()}

    def read(self) -> Mapping[str, Said[T]]:
        """The answers; old ones are read again, of all services at the same time."""
        now = time.monotonic()
        old = [name for name, copy in self._copies.items() if copy.next_read is None or now >= copy.next_read]
        if old:
            with ThreadPoolExecutor(len(old)) as pool:
                list(pool.map(self._refresh, old))
        return self.known()

    def _refresh(self, service: str) -> None:
        """One thread reads. Others use what is known; they only wait for the first answer."""
        copy = self._copies[service]
        if not copy.lock.acquire(blocking=copy.next_read is None):
            return
        try:
            if copy.next_read is None or time.monotonic() >= copy.next_read:
                copy.said, seconds = self._asked(service, copy.said)
                copy.next_read = time.monotonic() + seconds
        finally:
            copy.lock.release()

    def _asked(self, service: str, before: Said[T]) -> tuple[Said[T], float]:
        try:
            return Said(self._ask(service)), self._fresh
        except (NoAnswer, Away, NotFound, Refused) as error:
            return Said(before.value, str(error)), FAILED_SECONDS
