"""The partition of a key is the one that the producers of this system choose."""

import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from chassis.story.partitions import partition_of


def test_it_is_the_producers_partition(bootstrap_servers):
    topic = f"partitions-{uuid.uuid4().hex}"
    servers = {"bootstrap.servers": bootstrap_servers}
    admin = AdminClient(servers)
    admin.create_topics([NewTopic(topic, 6, 1)], operation_timeout=60)[topic].result()
    producer = Producer(servers | {"partitioner": "murmur2_random"})
    keys = [b"x", b"xy", b"xyz", b"\xff\xfe\xfd\xfc", "ä".encode(), *(str(uuid.uuid4()).encode() for _ in range(50))]
    chosen: dict[bytes, int] = {}
    for key in keys:
        producer.produce(
            topic, b"", key, on_delivery=lambda _, message: chosen.update({message.key(): message.partition()})
        )
    assert producer.flush(60) == 0
    assert chosen == {key: partition_of(key, 6) for key in keys}
