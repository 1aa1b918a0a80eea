"""Plain Kafka clients for tests, independent of the code under test."""

import os
import uuid
from collections.abc import Callable

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from chassis.kafka import clients, topic_reader
from tests.waiting import eventually


def servers() -> dict[str, str]:
    return {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]}


def make_topic(name: str, *, partitions: int = 3, **config: str) -> str:
    client = AdminClient(servers())
    [made] = client.create_topics([NewTopic(name, partitions, 1, config=config)], operation_timeout=30).values()
    made.result()

    def is_known() -> bool:
        """Whether the broker, too, knows it, and leads its partitions."""
        topic = client.list_topics(name, timeout=10).topics[name]
        leaders = [one.leader for one in topic.partitions.values() if one.error is None and one.leader >= 0]
        return topic.error is None and len(leaders) == partitions

    eventually(is_known, what=f"{name} is known")
    return name


def new_topic(prefix: str = "t", **more) -> str:
    return make_topic(f"{prefix}-{uuid.uuid4().hex[:8]}", **more)


def limit_batches(topic: str, size: int) -> None:
    """Set the maximum size of batches on a topic, in bytes."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    client = AdminClient(servers())
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    [done] = client.incremental_alter_configs([resource]).values()
    done.result(10)


def delete_before(topic: str, partition: int, offset: int) -> None:
    """Delete the records before an offset, like retention."""
    client = AdminClient(servers())
    [deleted] = client.delete_records([TopicPartition(topic, partition, offset)]).values()
    assert deleted.result(30).low_watermark == offset


def producer(**more: object) -> Producer:
    """A producer whose records are acknowledged by all replicas, in order. An idempotent one needs 0.5 s for its first record."""
    return Producer({**servers(), "acks": "all", "max.in.flight": 1, **more})


def send(topic: str, *records: tuple[bytes | None, bytes | None, list]) -> None:
    client = producer()
    for key, value, headers in records:
        client.produce(topic, value, key, headers=headers)
    assert client.flush(30) == 0


class Reader:
    """Reads the committed records of a topic from the beginning."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.messages: list[Message] = []
        self._client = Consumer(
            {
                **servers(),
                "group.id": f"reader-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        partitions = self._client.list_topics(topic, timeout=60).topics[topic].partitions
        self._client.assign([TopicPartition(topic, number, 0) for number in partitions])

    def read(self) -> list[Message]:
        while batch := clients.available(self._client, 1000, 0.1):
            self.messages += [message for message in batch if message.error() is None]
        return self.messages

    def until(self, enough: Callable[[list[Message]], bool], within: float = 60) -> list[Message]:
        eventually(lambda: enough(self.read()), within=within, what=f"{self.topic}: {len(self.messages)} records")
        return self.messages

    def close(self) -> None:
        self._client.close()


def read(topic: str, number: int, within: float = 60) -> list[Message]:
    """Wait for at least `number` records of a topic, and return them."""
    reader = Reader(topic)
    try:
        return reader.until(lambda messages: len(messages) >= number, within)
    finally:
        reader.close()


def headers(message: Message) -> dict[str, str]:
    return {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers() or []}


def committed(scene) -> int:
    """The number of records of the scene's topic that its group has committed."""
    client = Consumer(servers() | {"group.id": scene.group})
    try:
        places = [TopicPartition(scene.topic, n) for n in range(2)]
        offsets = topic_reader.settled(lambda: client.committed(places, timeout=60))
        return sum(max(0, partition.offset) for partition in offsets)
    finally:
        client.close()
