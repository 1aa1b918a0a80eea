"""When to try again: a retry policy is a value that computes delays, and does nothing itself."""

import random
from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter, and a maximum number of attempts. Times are in seconds."""

    attempts: int
    base: float
    factor: float = 2.0
    cap: float = 30.0

    def delay(self, attempt: int) -> float | None:
        """How long to wait after failed attempt number `attempt` (from 1), or None if that was the last.

        The jitter keeps at least half of the delay: replicas spread out, and the total time stays predictable.
        """
        if attempt >= self.attempts:
            return None
        longest: float = min(self.cap, self.base * self.factor ** min(attempt - 1, 64))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311


def service_policy() -> RetryPolicy:
    """The policy of the running service, from RETRY_* of its settings."""
    return RetryPolicy(
        attempts=settings.RETRY_ATTEMPTS,
        base=settings.RETRY_BASE_SECONDS,
        factor=settings.RETRY_FACTOR,
        cap=settings.RETRY_CAP_SECONDS,
    )


RECONNECT = RetryPolicy(attempts=1_000_000_000, base=0.1, factor=1.6, cap=2.0)
"""For a dependency that is down: without end, at most two seconds apart."""
