"""How long to wait for Kafka."""

import math
import time
from collections.abc import Callable
from typing import Protocol

from chassis.runtime.failures import DependencyDown


class Waiting(Protocol):
    """Decides how long whoever calls Kafka repeats what was not answered."""

    def heard(self) -> None:
        """Kafka said something."""

    def left(self) -> float:
        """The seconds that are left, more than 0. Raises something to give up."""


class Endless:
    """Kafka is waited for without end; `check` is called before each call, and may raise to give up."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def heard(self) -> None:
        """Changes nothing."""

    def left(self) -> float:
        """Infinity, once `check` has nothing against it."""
        self._check()
        return math.inf


class Patience:
    """How long Kafka is waited for: `silence` seconds without a word from it, and `whole` seconds in all."""

    def __init__(self, silence: float, whole: float = math.inf) -> None:
        self._silence = silence
        self._end = time.monotonic() + whole
        self._heard = time.monotonic()

    def heard(self) -> None:
        """Kafka said something, or was not asked."""
        self._heard = time.monotonic()

    def left(self) -> float:
        """The seconds that are left, more than 0. Raises DependencyDown when there are none."""
        left = min(self._heard + self._silence, self._end) - time.monotonic()
        if left <= 0:
            raise DependencyDown("Kafka does not answer in time, or somebody's transaction is open")
        return left
