"""How long to wait for Kafka."""

import math
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

from chassis.runtime.failures import DependencyDown

T = TypeVar("T")

CALL_SECONDS = 5.0
"""How long one question may take: a thread that waits in the Kafka client hears neither Ctrl-C nor SIGTERM."""

HURRY_SECONDS = 3.0
"""Who was told to stop waits for so long."""

UNANSWERED = frozenset({KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN})


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
    """How long Kafka is waited for: `silence` seconds without a word from it, and `whole` seconds in all.

    Once `told`, HURRY_SECONDS of silence are enough.
    """

    def __init__(self, silence: float, whole: float = math.inf, told: Callable[[], object] = lambda: False) -> None:
        self._silence = silence
        self._end = time.monotonic() + whole
        self._heard = time.monotonic()
        self._told = told

    def heard(self) -> None:
        """Kafka said something, or was not asked."""
        self._heard = time.monotonic()

    def left(self) -> float:
        """The seconds that are left, more than 0. Raises DependencyDown when there are none."""
        silence = min(self._silence, HURRY_SECONDS) if self._told() else self._silence
        left = min(self._heard + silence, self._end) - time.monotonic()
        if left <= 0:
            raise DependencyDown("Kafka does not answer in time, or somebody's transaction is open")
        return left

    def insist(self, ask: Callable[[float], T]) -> T:
        """Ask again what was not answered; `ask` is given the seconds that it may take.

        Raises KafkaException where Kafka refuses, and DependencyDown with the last error when no time is left.
        """
        last: Exception | None = None
        while True:
            try:
                seconds = min(CALL_SECONDS, self.left())
            except DependencyDown as over:
                raise DependencyDown(f"Kafka does not answer: {last}") if last else over from None
            try:
                answer = ask(seconds)
            except TimeoutError as error:
                last = error
            except KafkaException as error:
                if error.args[0].code() not in UNANSWERED and not error.args[0].retriable():
                    raise
                last = error
            else:
                self.heard()
                return answer
