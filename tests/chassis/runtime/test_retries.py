"""The retry policy, as a table."""

import pytest

from chassis.runtime.retries import RECONNECT, RetryPolicy


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [(1, 0.1, 0.2), (2, 0.2, 0.4), (3, 0.4, 0.8), (4, 0.5, 1.0), (7, 0.5, 1.0)],
)
def test_waits_longer_each_time_up_to_the_cap(attempt, least, most):
    policy = RetryPolicy(attempts=8, base=0.2, factor=2, cap=1.0)
    delays = [policy.delay(attempt) for _ in range(200)]
    assert all(least <= delay <= most for delay in delays)
    assert len(set(delays)) > 100, "without jitter all replicas come back at once"


def test_stops_after_its_attempts():
    policy = RetryPolicy(attempts=3, base=1)
    assert [policy.delay(n) is None for n in (1, 2, 3, 4)] == [False, False, True, True]


def test_a_dependency_is_probed_forever_at_most_two_seconds_apart():
    assert all(0 < RECONNECT.delay(n) <= 2.0 for n in (1, 10, 1_000, 1_000_000))
