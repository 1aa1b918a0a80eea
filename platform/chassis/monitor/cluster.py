"""What the brokers report: topics, consumer groups and offsets. The number of requests depends on that of brokers only."""

import warnings
from collections.abc import Iterable
from contextlib import suppress

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ClusterMetadata, OffsetSpec
from django.conf import settings

from chassis.kafka import names, partition_offsets
from chassis.kafka.records import Partition

REQUEST_SECONDS = 2.0
"""How long a broker has for an answer."""
ATTEMPTS = 3
"""How often a round requests the topics until a broker responds."""


def read_topics(client: AdminClient) -> tuple[int, dict[str, int]]:
    """The number of brokers, and the number of partitions of each topic whose name begins with KAFKA_PREFIX.

    Raises KafkaException.
    """
    cluster = _read_metadata(client)
    topics = {
        name: len(topic.partitions)
        for name, topic in cluster.topics.items()
        if name.startswith(settings.KAFKA_PREFIX) and names.is_legal(name)
    }
    return len(cluster.brokers), topics


def _read_metadata(client: AdminClient) -> ClusterMetadata:
    """Any broker can answer; librdkafka chooses one, which may be a suspended one that it has not given up yet."""
    for _ in range(ATTEMPTS - 1):
        with suppress(KafkaException):
            return client.list_topics(timeout=REQUEST_SECONDS)
    return client.list_topics(timeout=REQUEST_SECONDS)


def read_members(client: AdminClient) -> dict[str, int]:
    """The number of members of each consumer group whose name begins with KAFKA_PREFIX. Raises KafkaException.

    This is the deprecated call: it asks each broker for its groups. Its successor, `describe_consumer_groups`, asks twice for
    each group, and no longer gets an answer after a broker has restarted (librdkafka 2.16).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = client.list_groups(timeout=REQUEST_SECONDS)
    kinds = {"consumer", ""}  # a group without members may have no protocol
    known = {str(group.id): len(group.members) for group in found if not group.error and group.protocol_type in kinds}
    return {group: count for group, count in known.items() if group.startswith(settings.KAFKA_PREFIX)}


def read_offsets(client: AdminClient, places: Iterable[TopicPartition], spec: OffsetSpec) -> dict[Partition, int]:
    """The offset of `spec` in each of these partitions whose leader responds; asks again if none does.

    The first request may get lost: with a connection that the broker has closed, or one that is only being opened.
    """
    places = list(places)
    for _ in range(2):
        with suppress(KafkaException):
            return partition_offsets.read(client, places, spec, timeout=REQUEST_SECONDS, partial=True)
    return {}
