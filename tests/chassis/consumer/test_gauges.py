"""The gauges of a consumer are right while its loop hangs in a handler, or events are held."""

import threading

import pytest
from prometheus_client import Gauge

from chassis.consumer import gauges
from chassis.consumer.backlog import Backlog
from chassis.consumer.consumer import Consumer
from chassis.observability import metrics
from tests.chassis.support.kafka_helpers import committed
from tests.chassis.support.loops import running
from tests.chassis.support.records import record
from tests.waiting import eventually

kafka = pytest.mark.django_db(databases=["users"], transaction=True)


def value(gauge: Gauge, topic: str) -> float:
    """The sum over the partitions of a topic."""
    [metric] = gauge.collect()
    return sum(one.value for one in metric.samples if one.labels["topic"] == topic)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(gauges, "EVERY_SECONDS", 0.2)


@kafka
def test_the_lag_grows_while_a_handler_hangs(scene):
    may_return, hangs = threading.Event(), threading.Event()

    def react(scene, received):
        hangs.set()
        may_return.wait(120)

    scene.react = react
    scene.send(scene.event(0))
    with running(Consumer) as consumer:
        try:
            assert hangs.wait(60)
            scene.send(*(scene.event(n, key=f"k{n}") for n in range(1, 31)))
            eventually(lambda: value(metrics.CONSUMER_LAG, scene.topic) == 31)
            scene.send(*(scene.event(n, key=f"k{n}") for n in range(31, 41)))
            eventually(lambda: value(metrics.CONSUMER_LAG, scene.topic) == 41)
            assert not scene.handled
        finally:
            may_return.set()
        eventually(lambda: committed(scene) == 41)
        eventually(lambda: value(metrics.CONSUMER_LAG, scene.topic) == 0)
        assert consumer.loop.assigned == 2


@kafka
def test_events_are_held_behind_failing_keys_while_another_handler_hangs(scene, settings):
    settings.RETRY_ATTEMPTS, settings.RETRY_BASE_SECONDS = 1000, 600.0
    settings.CONSUMER_STOP_AFTER_KEYS = 0
    may_return, hangs = threading.Event(), threading.Event()

    def react(scene, received):
        if any(one.key.startswith("bad") for one in received):
            raise ValueError("bad")
        if any(one.key == "slow" for one in received):
            hangs.set()
            may_return.wait(120)

    scene.react = react
    scene.send(*(scene.event(n, key=f"bad-{n % 3}") for n in range(12)))
    with running(Consumer):
        try:
            eventually(lambda: value(metrics.EVENTS_HELD, scene.topic) == 12)
            eventually(lambda: value(metrics.EVENTS_BLOCKED_KEYS, scene.topic) == 3)
            scene.send(scene.event(12, key="slow"))
            assert hangs.wait(60)
            for gauge in (metrics.EVENTS_HELD, metrics.EVENTS_BLOCKED_KEYS):
                gauge.labels(scene.topic).set(0)
            eventually(lambda: value(metrics.EVENTS_HELD, scene.topic) == 12, what="set again by the thread")
            eventually(lambda: value(metrics.EVENTS_BLOCKED_KEYS, scene.topic) == 3)
        finally:
            may_return.set()
    eventually(lambda: value(metrics.CONSUMER_LAG, scene.topic) == 0, what="partitions of others have no lag here")


class TestBlockedKeys:
    """Which keys count as blocked."""

    def failed(self, backlog: Backlog, *keys: str) -> dict:
        records = {key: record(offset, key) for offset, key in enumerate(keys)}
        for one in records.values():
            backlog.add(one)
        for one in backlog.take(100, now=0):
            backlog.fail(one, retry_at=10)
        return records

    def test_until_the_failed_event_is_finished(self):
        backlog = Backlog()
        records = self.failed(backlog, "a", "b")
        backlog.add(record(2, "a"))
        assert backlog.blocked_keys == {"user.created": 2}
        backlog.finish([records["a"]])
        assert backlog.blocked_keys == {"user.created": 1}, "what was behind it only resumes"
        [again] = backlog.take(1, now=20)
        assert again is records["b"]
        backlog.fail(again, retry_at=30)
        assert backlog.blocked_keys == {"user.created": 1}

    def test_until_the_partition_is_revoked(self):
        backlog = Backlog()
        self.failed(backlog, "a", "b")
        backlog.drop([("user.created", 0)])
        assert backlog.blocked_keys == {}

    def test_a_probe_of_a_stopped_topic_that_fails_blocks_its_key_until_the_topic_resumes(self):
        backlog = Backlog()
        self.failed(backlog, "a")
        backlog.add(record(1, "b"))
        backlog.stop("user.created")
        assert backlog.blocked_keys == {"user.created": 1}
        probe = backlog.probe("user.created", failed=False)
        assert probe is not None
        backlog.fail(probe, retry_at=5)
        assert backlog.blocked_keys == {"user.created": 2}
        backlog.take(10, now=20)  # their retries are due, and are noted as failed probes
        backlog.resume("user.created")
        assert backlog.blocked_keys == {}
