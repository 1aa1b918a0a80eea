"""How long to wait for Kafka."""

import math
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

from chassis.runtime.failures import DependencyDown

T = TypeVar("T")

CALL_SECONDS = 5.0
"""Maximum time of one request: a thread that waits in the Kafka client receives neither SIGINT nor SIGTERM."""

HURRY_SECONDS = 3.0
"""Maximum silence for a process that was asked to stop."""

UNANSWERED = frozenset({KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN})

MOVING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
"""Temporary errors while a group's coordinator or a partition's leader moves or is elected. librdkafka does not say of all of them
that they are temporary."""
MOVING_PAUSE_SECONDS = 0.2


def is_temporary(error: KafkaException) -> bool:
    """Whether the same request may succeed a moment later."""
    code = error.args[0].code()
    return code in UNANSWERED or code in MOVING or bool(error.args[0].retriable())


class Waiting(Protocol):
    """Decides how long unanswered requests to Kafka are repeated."""

    def heard(self) -> None:
        """Note a response of Kafka."""

    def left(self) -> float:
        """The remaining seconds, more than 0. Raises an exception to give up."""


SILENCE_SECONDS = 30.0


class Endless:
    """Waits for Kafka without a limit; `check` is called before each request, and may raise to give up.

    So may `on_silence`, which is called if there was no response for SILENCE_SECONDS, and each time these have passed again.
    """

    def __init__(self, check: Callable[[], None], on_silence: Callable[[], None]) -> None:
        self._check = check
        self._on_silence = on_silence
        self._heard = time.monotonic()

    def heard(self) -> None:
        """Note a response of Kafka, or a time without a request to it."""
        self._heard = time.monotonic()

    def left(self) -> float:
        """Infinity, unless `check` or `on_silence` raises."""
        self._check()
        if time.monotonic() - self._heard > SILENCE_SECONDS:
            self._heard = time.monotonic()
            self._on_silence()
        return math.inf


class Patience:
    """Waits for Kafka: at most `silence` seconds between two responses, and `total` seconds altogether.

    As soon as `stopping` is true, at most HURRY_SECONDS between two responses.
    """

    def __init__(self, silence: float, total: float = math.inf, stopping: Callable[[], object] = lambda: False) -> None:
        self._silence = silence
        self._end = time.monotonic() + total
        self._heard = time.monotonic()
        self._stopping = stopping

    def heard(self) -> None:
        """Note a response of Kafka, or a time without a request to it."""
        self._heard = time.monotonic()

    def left(self) -> float:
        """The remaining seconds, more than 0. Raises DependencyDown if there are none."""
        silence = min(self._silence, HURRY_SECONDS) if self._stopping() else self._silence
        left = min(self._heard + silence, self._end) - time.monotonic()
        if left <= 0:
            raise DependencyDown("Kafka does not respond in time, or another transaction is open")
        return left

    def insist(self, ask: Callable[[float], T]) -> T:
        """Repeat a request until Kafka responds. `ask` is passed the seconds that it may take.

        Raises KafkaException if Kafka rejects the request, and DependencyDown with the last error if no time is left.
        """
        last: Exception | None = None
        while True:
            try:
                seconds = min(CALL_SECONDS, self.left())
            except DependencyDown as over:
                raise DependencyDown(f"Kafka does not respond: {last}") if last else over from None
            try:
                answer = ask(seconds)
            except TimeoutError as error:
                last = error
            except KafkaException as error:
                if not is_temporary(error):
                    raise
                last = error
                time.sleep(min(MOVING_PAUSE_SECONDS, seconds))
            else:
                self.heard()
                return answer
