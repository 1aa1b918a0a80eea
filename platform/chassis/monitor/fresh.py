"""Measured values that expire, so that an old one never looks like a current one."""

import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from prometheus_client import Gauge

KEPT_SECONDS = 30.0
"""How long a value is reported after it was last measured: longer than it takes to restart a broker or to move a leader."""

K = TypeVar("K")
V = TypeVar("V")


class Fresh(Generic[K, V]):
    """Values by key, each of which is forgotten KEPT_SECONDS after it was last measured."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._measured: dict[K, tuple[float, V]] = {}

    def update(self, values: Mapping[K, V]) -> None:
        """Note values that were measured now."""
        now = self._clock()
        self._measured |= {key: (now, value) for key, value in values.items()}

    def values(self) -> dict[K, V]:
        """The values that are not too old."""
        oldest = self._clock() - KEPT_SECONDS
        self._measured = {key: known for key, known in self._measured.items() if known[0] >= oldest}
        return {key: value for key, (_, value) in self._measured.items()}


class Series:
    """The time series of a gauge with labels."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._exported: set[tuple[str, ...]] = set()

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Export these values, and remove the time series of all other labels."""
        for labels in self._exported - values.keys():
            self._gauge.remove(*labels)
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        self._exported = set(values)
