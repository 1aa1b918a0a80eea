"""The token bucket, which limits how many traces are recorded per second."""

import pytest

from chassis.observability.samplers import Bucket


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("per_second", "at_once"), [(20, 20), (1, 1), (0.5, 1)])
def test_it_gives_what_it_holds_and_then_what_flows_in(per_second, at_once):
    clock = Clock()
    bucket = Bucket(per_second, clock)
    assert sum(bucket.take() for _ in range(100)) == at_once
    clock.now += 0.9 / per_second
    assert not bucket.take()
    clock.now += 0.2 / per_second
    assert bucket.take()
    assert not bucket.take()


def test_it_holds_no_more_than_one_second():
    clock = Clock()
    bucket = Bucket(20, clock)
    clock.now += 3600
    assert sum(bucket.take() for _ in range(100)) == 20


@pytest.mark.parametrize("per_second", [0, -1, float("nan"), float("inf")])
def test_its_rate_is_a_positive_number(per_second):
    with pytest.raises(ValueError, match="positive number"):
        Bucket(per_second)
