"""The monitor's view of a real broker, one round at a time."""

import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import Gauge

from chassis.health.heartbeat import Heartbeat
from chassis.kafka.topic_reader import settled
from chassis.monitor import committed, monitor
from chassis.observability import metrics

PARTITIONS = 2


def values(gauge: Gauge) -> dict[tuple[str, ...], float]:
    """The exported values by their labels, in the order of the definition."""
    [family] = gauge.collect()
    return {tuple(sample.labels[label] for label in gauge._labelnames): sample.value for sample in family.samples}


@pytest.fixture(autouse=True)
def prefix(settings) -> str:
    """Of this test alone: other tests use the same broker."""
    settings.KAFKA_PREFIX = f"m{uuid.uuid4().hex[:8]}."
    return settings.KAFKA_PREFIX


@pytest.fixture
def admin(bootstrap_servers) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})


@pytest.fixture
def create(admin, prefix) -> Callable[..., None]:
    def create(*topics: str) -> None:
        for future in admin.create_topics([NewTopic(prefix + topic, PARTITIONS, 1) for topic in topics]).values():
            future.result(30)

    return create


@pytest.fixture
def produce(bootstrap_servers, prefix) -> Callable[[str, int, int], None]:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "log_level": 0})

    def produce(topic: str, partition: int, count: int) -> None:
        for _ in range(count):
            producer.produce(prefix + topic, b"x", partition=partition)
        assert producer.flush(30) == 0

    return produce


@pytest.fixture
def commit(bootstrap_servers, prefix) -> Callable[[str, str, int, int], None]:
    """Commit an offset of a group that has no members."""

    def commit(group: str, topic: str, partition: int, offset: int) -> None:
        client = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": prefix + group, "log_level": 0})
        place = TopicPartition(prefix + topic, partition, offset)
        settled(lambda: client.commit(offsets=[place], asynchronous=False))
        client.close()

    return commit


@pytest.fixture
def measured() -> Iterator[monitor.Monitor]:
    made = monitor.Monitor(Heartbeat("test"), threading.Event())
    yield made
    for gauge in made._series:
        gauge.clear()


def lags(prefix: str) -> dict[tuple[str, str, str], float]:
    return {
        (group.removeprefix(prefix), topic.removeprefix(prefix), partition): value
        for (group, topic, partition), value in values(metrics.KAFKA_GROUP_LAG).items()
    }


class TestLag:
    def test_is_counted_from_the_committed_offset(self, measured, create, produce, commit, prefix):
        create("user.created")
        produce("user.created", 0, 10)
        produce("user.created", 1, 3)
        commit("orders", "user.created", 0, 4)
        commit("orders", "user.created", 1, 3)
        measured.measure()
        assert lags(prefix) == {("orders", "user.created", "0"): 6, ("orders", "user.created", "1"): 0}
        offsets = values(metrics.KAFKA_GROUP_OFFSET)
        assert offsets[f"{prefix}orders", f"{prefix}user.created", "0"] == 4

    def test_without_an_offset_the_whole_partition_waits(self, measured, create, produce, commit, prefix):
        create("user.created")
        produce("user.created", 0, 2)
        produce("user.created", 1, 7)
        commit("orders", "user.created", 0, 2)
        measured.measure()
        assert lags(prefix)["orders", "user.created", "1"] == 7

    def test_of_a_group_that_the_broker_does_not_know(self, measured, create, produce, prefix):
        create("user.created", "user.created.stock.dlq")
        produce("user.created", 0, 2)
        measured.measure()
        assert lags(prefix) == {("stock", "user.created", "0"): 2, ("stock", "user.created", "1"): 0}
        assert values(metrics.KAFKA_GROUP_MEMBERS) == {(f"{prefix}stock",): 0}

    def test_what_retention_has_deleted_does_not_wait(self, measured, admin, create, produce, commit, prefix):
        create("user.created")
        produce("user.created", 0, 10)
        commit("orders", "user.created", 0, 2)
        place = TopicPartition(f"{prefix}user.created", 0, 6)
        admin.delete_records([place])[place].result(30)
        measured.measure()
        assert lags(prefix)["orders", "user.created", "0"] == 4


class TestScope:
    def test_nothing_of_another_prefix_is_measured(self, measured, create, produce, commit, prefix, settings):
        create("user.created", "user.created.orders.dlq")
        produce("user.created", 0, 2)
        commit("orders", "user.created", 0, 1)
        settings.KAFKA_PREFIX = f"other-{prefix}"
        measured.measure()
        for gauge in (metrics.KAFKA_GROUP_LAG, metrics.KAFKA_GROUP_MEMBERS, metrics.KAFKA_TOPIC_PARTITIONS):
            assert values(gauge) == {}
        assert values(metrics.KAFKA_UP) == {(): 1}

    def test_a_topic_that_only_ends_like_a_dead_letter_topic_has_no_group(self, measured, create, prefix):
        create("strange.dlq")
        measured.measure()
        assert values(metrics.KAFKA_GROUP_MEMBERS) == {}
        assert values(metrics.KAFKA_TOPIC_PARTITIONS) == {(f"{prefix}strange.dlq",): PARTITIONS}


def test_dead_letters_are_counted(measured, create, produce, prefix):
    create("user.created", "user.created.orders.dlq")
    produce("user.created.orders.dlq", 0, 2)
    produce("user.created.orders.dlq", 1, 1)
    measured.measure()
    assert values(metrics.KAFKA_DEAD_LETTERS) == {(f"{prefix}user.created.orders.dlq",): 3}


def test_more_groups_than_clients(measured, create, produce, commit, prefix, monkeypatch):
    """Each is measured, and few clients are kept."""
    monkeypatch.setattr(committed, "KEPT", 2)
    create("user.created")
    produce("user.created", 0, 9)
    for number in range(5):
        commit(f"group{number}", "user.created", 0, number)
    measured.measure()
    assert [lags(prefix)[f"group{number}", "user.created", "0"] for number in range(5)] == [9, 8, 7, 6, 5]
    assert len(measured._committed_offsets._clients) == 2


def test_a_round_that_takes_too_long_is_continued_by_the_next(measured, create, produce, commit, prefix, monkeypatch):
    monkeypatch.setattr(monitor, "GROUPS_SECONDS", 0.0)  # the deadline has passed after the first group
    create("user.created")
    produce("user.created", 0, 9)
    for number in range(3):
        commit(f"group{number}", "user.created", 0, number)
    seen = []
    for _ in range(3):
        measured.measure()
        seen.append(len({group for group, _, _ in lags(prefix)}))
    assert seen == [1, 2, 3]


def test_a_broker_that_is_away(settings, measured):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    measured.measure()
    assert values(metrics.KAFKA_UP) == values(metrics.KAFKA_BROKERS) == {(): 0}
    assert measured._heartbeat.waits_for("broker")
