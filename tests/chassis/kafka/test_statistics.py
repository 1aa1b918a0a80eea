"""The statistics of a real client become metrics."""

import time

import orjson
import pytest

from chassis.kafka import clients, statistics
from chassis.observability import metrics
from tests.chassis.support.kafka_helpers import new_topic
from tests.waiting import eventually


def rtt() -> dict[str, float]:
    [metric] = metrics.KAFKA_BROKER_RTT.collect()
    return {one.labels["broker"]: one.value for one in metric.samples}


def queued() -> float:
    return metrics.KAFKA_QUEUE_MESSAGES._value.get()


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(statistics, "_queued", {})
    metrics.KAFKA_BROKER_RTT.clear()


def test_a_producer_reports_round_trips_and_its_queue():
    reports: list[str] = []

    def note(report: str) -> None:
        reports.append(report)
        statistics.note(report)

    producer = clients.producer(**statistics.options() | {"statistics.interval.ms": 100, "stats_cb": note})
    producer.produce(new_topic(), b"x")
    producer.flush(30)
    eventually(lambda: producer.poll(0.1) or rtt())
    assert all(node.isdecimal() and 0 < seconds < 60 for node, seconds in rtt().items())
    eventually(lambda: producer.poll(0.1) or queued() == 0)

    started = time.perf_counter()
    for _ in range(100):
        statistics.note(reports[-1])
    assert (time.perf_counter() - started) / 100 < statistics.STATISTICS_SECONDS / 100, "a hundredth of the interval"


def test_the_queues_of_several_clients_are_added_and_a_closed_client_is_forgotten(monkeypatch):
    now = 100.0
    monkeypatch.setattr(statistics.time, "monotonic", lambda: now)

    def note(name: str, number: int) -> None:
        statistics.note(orjson.dumps({"name": name, "msg_cnt": number, "brokers": {}}).decode())

    note("a", 3)
    note("b", 4)
    assert queued() == 7
    note("a", 1)
    assert queued() == 5
    now += 3 * statistics.STATISTICS_SECONDS + 1
    note("a", 1)
    assert queued() == 1


def test_the_faster_connection_to_a_broker_counts():
    def broker(node: int, average: float, count: int = 1) -> dict:
        return {"nodeid": node, "rtt": {"avg": average, "cnt": count}}

    connections = {
        "bootstrap": broker(-1, 1), "one": broker(1, 500_000), "coordinator": broker(1, 2_000),
        "two": broker(2, 3_000), "silent": broker(3, 0, 0),
    }  # fmt: skip
    statistics.note(orjson.dumps({"name": "a", "msg_cnt": 0, "brokers": connections}).decode())
    assert rtt() == {"1": 0.002, "2": 0.003}
