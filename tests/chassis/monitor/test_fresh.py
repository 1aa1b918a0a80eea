from prometheus_client import CollectorRegistry, Gauge

from chassis.monitor.fresh import KEPT_SECONDS, Fresh, Series


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestFresh:
    def test_a_value_expires_after_it_was_last_measured(self):
        clock = Clock()
        fresh: Fresh[str, int] = Fresh(clock)
        fresh.update({"a": 1, "b": 2})
        clock.now += KEPT_SECONDS
        fresh.update({"b": 3})
        assert fresh.values() == {"a": 1, "b": 3}
        clock.now += 0.1
        assert fresh.values() == {"b": 3}
        clock.now += KEPT_SECONDS
        assert fresh.values() == {}

    def test_a_value_that_is_measured_again_is_back(self):
        clock = Clock()
        fresh: Fresh[str, int] = Fresh(clock)
        fresh.update({"a": 1})
        clock.now += KEPT_SECONDS + 1
        assert fresh.values() == {}
        fresh.update({"a": 2})
        assert fresh.values() == {"a": 2}


def test_series_without_a_value_are_removed():
    registry = CollectorRegistry()
    series = Series(Gauge("lag", "Lag.", ["group", "topic"], registry=registry))
    series.replace({("a", "x"): 1, ("b", "x"): 2})
    series.replace({("b", "x"): 3, ("c", "y"): 0})
    assert registry.get_sample_value("lag", {"group": "a", "topic": "x"}) is None
    assert registry.get_sample_value("lag", {"group": "b", "topic": "x"}) == 3
    assert registry.get_sample_value("lag", {"group": "c", "topic": "y"}) == 0
