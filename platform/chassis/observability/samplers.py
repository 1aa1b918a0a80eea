"""Which new traces are recorded: a ratio of them, or so many per second."""

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

already_sampled: ContextVar[bool] = ContextVar("already_sampled", default=False)
"""Whether it has already been decided that a new trace is recorded, so that it is not decided twice."""


class Roots(Sampler):
    """Decides about new traces."""

    def wants(self, trace_id: int) -> bool:
        """Whether a new trace is recorded. Each call is a decision."""
        raise NotImplementedError

    def wants_failure(self) -> bool:
        """Whether the gateway records a request that has failed although its trace is not recorded. Each call is a decision."""
        return False

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See Sampler."""
        wanted = already_sampled.get() or self.wants(trace_id)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes) if wanted else SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        """See Sampler."""
        return type(self).__name__


class Ratio(Roots):
    """A ratio of new traces, from 0 to 1, chosen by their id: every process with this ratio chooses the same ones."""

    def __init__(self, ratio: float) -> None:
        """Raises ValueError."""
        self._bound = TraceIdRatioBased(ratio).bound

    def wants(self, trace_id: int) -> bool:
        """See Roots."""
        return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound


class PerSecond(Roots):
    """At most so many new traces per second and process, so that recording costs the same under any load.

    The gateway records as many failed requests besides.
    """

    def __init__(self, per_second: float) -> None:
        """Raises ValueError."""
        self._traces = Bucket(per_second)
        self._failures = Bucket(per_second)

    def wants(self, trace_id: int) -> bool:
        """See Roots."""
        return self._traces.take()

    def wants_failure(self) -> bool:
        """See Roots."""
        return self._failures.take()


class Bucket:
    """A token bucket, which holds the tokens of one second."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError if it is not a positive number."""
        if not 0 < per_second < float("inf"):
            raise ValueError(f"must be a positive number, not {per_second!r}")
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._clock = clock
        self._tokens = self._most
        self._filled_at = clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a token, if there is one."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._most, self._tokens + (now - self._filled_at) * self._per_second)
            self._filled_at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
