"""How long to wait for Kafka."""

import math
import time
from collections.abc import Callable
from typing import Protocol

from chassis.runtime.failures import DependencyDown


class Waiting(Protocol):
    """Decides how long unanswered requests to Kafka are repeated."""

    def heard(self) -> None:
        """Note a response of Kafka."""

    def left(self) -> float:
        """The remaining seconds, more than 0. Raises an exception to give up."""


class Endless:
    """Waits for Kafka without a limit; `check` is called before each request, and may raise to give up."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def heard(self) -> None:
        """Do nothing."""

    def left(self) -> float:
        """Infinity, unless `check` raises."""
        self._check()
        return math.inf


class Patience:
    """Waits for Kafka: at most `silence` seconds between two responses, and `total` seconds altogether."""

    def __init__(self, silence: float, total: float = math.inf) -> None:
        self._silence = silence
        self._end = time.monotonic() + total
        self._heard = time.monotonic()

    def heard(self) -> None:
        """Note a response of Kafka, or a time without a request to it."""
        self._heard = time.monotonic()

    def left(self) -> float:
        """The remaining seconds, more than 0. Raises DependencyDown if there are none."""
        left = min(self._heard + self._silence, self._end) - time.monotonic()
        if left <= 0:
            raise DependencyDown("Kafka does not respond in time, or another transaction is open")
        return left
