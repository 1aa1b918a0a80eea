"""How long to wait for Kafka."""

import time

from chassis.runtime.failures import DependencyDown


class Patience:
    """How long Kafka is waited for: `silence` seconds without a word from it, and `whole` seconds in all."""

    def __init__(self, silence: float, whole: float = float("inf")) -> None:
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
