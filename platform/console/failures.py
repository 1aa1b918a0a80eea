"""A source that cannot be read now. Every page shows it as text: never a blank page, and never a 500."""

import threading
import time
from dataclasses import dataclass


class Away(Exception):
    """Kafka, a service or the log files cannot be read now. `source` is its name for people, `reason` one sentence."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} cannot be reached: {reason}")
        self.source = source
        self.reason = reason


class NotFound(Exception):
    """What was asked for is unknown, such as a story; the message says what, and why that may be so."""


@dataclass(frozen=True, slots=True)
class State:
    """Whether a source can be read. `since` is when that began, in seconds since the epoch."""

    source: str
    up: bool
    since: float
    reason: str = ""


class Source:
    """The state of a source, noted by the code that reads it. Safe to use from several threads."""

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._state = State(name, True, time.time())

    @property
    def state(self) -> State:
        """Its state now."""
        return self._state

    def answered(self) -> None:
        """It was read."""
        with self._lock:
            if not self._state.up:
                self._state = State(self._state.source, True, time.time())

    def failed(self, reason: object) -> Away:
        """It could not be read; returns the exception to raise."""
        text = " ".join(str(reason).split())[:300]
        with self._lock:
            since = time.time() if self._state.up else self._state.since
            self._state = State(self._state.source, False, since, text)
        return Away(self._state.source, text)
