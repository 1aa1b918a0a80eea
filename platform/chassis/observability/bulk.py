"""Observing many values of a histogram at once: one update per bucket instead of one per value.

prometheus_client can only observe one value at a time, which for a batch of events costs more than other parts of its
processing. A histogram has one counter per bucket, not cumulative, and one of the sum.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from prometheus_client import Histogram


def observe_times(histogram: Histogram, value: float, times: int) -> None:
    """Observe the same value `times` times."""
    _add(histogram, {bisect_left(histogram._upper_bounds, value): times}, value * times)


def observe_each(histogram: Histogram, values: Iterable[float]) -> None:
    """Observe each of these values."""
    observed = list(values)
    bounds = histogram._upper_bounds
    _add(histogram, Counter([bisect_left(bounds, value) for value in observed]), sum(observed))


def _add(histogram: Histogram, numbers: dict[int, int], total: float) -> None:
    for bucket, number in numbers.items():
        histogram._buckets[bucket].inc(number)
    histogram._sum.inc(total)
