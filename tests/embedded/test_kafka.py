from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from embedded import ports
from embedded.kafka import Kafka


def produce(kafka: Kafka, topic: str, value: str, timeout: float = 60) -> int:
    """The offset of the record, once it was acknowledged."""
    placed: list[int] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "acks": "all", "reconnect.backoff.max.ms": 200})
    producer.produce(
        topic, value, on_delivery=lambda error, message: None if error else placed.append(message.offset())
    )
    producer.flush(timeout)
    assert placed, f"{value} was not acknowledged within {timeout} s"
    return placed[0]


def create(kafka: Kafka, topic: str, copies: int = 1, in_sync: int = 1) -> None:
    config = {"min.insync.replicas": str(in_sync)}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=copies, config=config)])[topic].result(60)


def read(kafka: Kafka, topic: str, count: int) -> list[str]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(count, timeout=60)
    consumer.close()
    return [message.value().decode() for message in messages]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory):
    broker = Kafka(tmp_path_factory.mktemp("a b") / "kafka")
    with broker:
        yield broker
        broker.abandon()


def test_topics_are_not_created_automatically(kafka: Kafka) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "topic.metadata.propagation.max.ms": 500})
    errors = []
    producer.produce("nobody.made.me", "x", on_delivery=lambda error, message: errors.append(error))
    producer.flush(60)

    assert [error.name() for error in errors] == ["UNKNOWN_TOPIC_OR_PART"]


def test_acknowledged_records_survive_kill_9(kafka: Kafka) -> None:
    create(kafka, "kept")
    produce(kafka, "kept", "before")
    kafka.kill9()
    kafka.restart()

    assert produce(kafka, "kept", "after") == 1
    assert read(kafka, "kept", 2) == ["before", "after"]


def test_it_can_be_stopped_and_started(kafka: Kafka) -> None:
    servers = kafka.bootstrap_servers
    create(kafka, "again")
    kafka.stop()
    assert not ports.listens(kafka.members[0].port)
    kafka.restart()

    assert kafka.bootstrap_servers == servers
    assert produce(kafka, "again", "x") == 0


def test_it_does_not_respond_while_paused(kafka: Kafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    kafka.pause()
    try:
        with pytest.raises(KafkaException):
            admin.list_topics(timeout=0.5)
    finally:
        kafka.resume()

    assert list(admin.list_topics(timeout=60).brokers) == [1]


def test_three_nodes_are_a_cluster_that_outlives_one_of_them(tmp_path: Path) -> None:
    cluster = Kafka(tmp_path / "kafka", nodes=3, heap_mb=256)
    try:
        cluster.start()
        create(cluster, "copied", copies=3, in_sync=2)
        produce(cluster, "copied", "all three")
        cluster.kill9(node=2)
        produce(cluster, "copied", "two of three", timeout=60)
        cluster.restart(node=2)

        assert read(cluster, "copied", 2) == ["all three", "two of three"]
        assert [node.child.alive for node in cluster.members] == [True, True, True]
    finally:
        cluster.abandon()
