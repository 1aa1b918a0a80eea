"""Observing many values at once gives the same histogram as observing each."""

import pytest
from prometheus_client import Histogram

from chassis.observability.bulk import observe_each, observe_times

BUCKETS = (0.1, 1.0, 10.0)
VALUES = [0.0, 0.05, 0.1, 0.100001, 1.0, 3.0, 10.0, 10.5, 1e9, 0.05]


def samples(histogram: Histogram) -> dict[tuple[str, str], float]:
    [metric] = histogram.collect()
    return {
        (one.name, one.labels.get("le", "")): one.value for one in metric.samples if not one.name.endswith("_created")
    }


def observed(values: list[float]) -> dict[tuple[str, str], float]:
    histogram = Histogram("h", "One by one.", registry=None, buckets=BUCKETS)
    for value in values:
        histogram.observe(value)
    return samples(histogram)


def test_each_of_several_values():
    histogram = Histogram("h", "At once.", registry=None, buckets=BUCKETS)
    observe_each(histogram, VALUES)
    assert samples(histogram) == pytest.approx(observed(VALUES))
    observe_each(histogram, [])
    assert samples(histogram)["h_count", ""] == len(VALUES)


@pytest.mark.parametrize("value", VALUES)
def test_the_same_value_several_times(value):
    histogram = Histogram("h", "At once.", registry=None, buckets=BUCKETS)
    observe_times(histogram, value, 7)
    assert samples(histogram) == pytest.approx(observed([value] * 7))


def test_a_child_of_a_histogram_with_labels():
    histogram = Histogram("h", "At once.", ["topic"], registry=None, buckets=BUCKETS)
    observe_each(histogram.labels("t"), [0.5, 5.0])
    [metric] = histogram.collect()
    assert {one.labels["le"]: one.value for one in metric.samples if one.name == "h_bucket"} == {
        "0.1": 0.0, "1.0": 1.0, "10.0": 2.0, "+Inf": 2.0,
    }  # fmt: skip
