"""The topics of a service: those that it publishes, and the dead-letter topics of those that it consumes.

Only `manage.py topics` creates topics.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic
from django.conf import settings

from chassis.events.registry import handlers, published
from chassis.kafka import names, sizes

HOUR_MS = 3_600_000
PARTITIONS = "partitions"
REPLICATION = "replication factor"


@dataclass(frozen=True, slots=True)
class Topic:
    """The desired state of a topic."""

    name: str
    partitions: int
    replication_factor: int
    config: dict[str, str]

    def as_new(self) -> NewTopic:
        """The request to create it."""
        return NewTopic(
            self.name,
            num_partitions=self.partitions,
            replication_factor=self.replication_factor,
            config=self.config,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Configuration drift: a setting of an existing topic that differs from the desired one."""

    topic: str
    what: str
    """The name of a topic setting, or PARTITIONS, or REPLICATION."""
    there: str
    wanted: str

    @property
    def is_config(self) -> bool:
        """Whether it can be corrected at any time, without moving records."""
        return self.what not in {PARTITIONS, REPLICATION}

    @property
    def is_more_partitions(self) -> bool:
        """Whether it requires more partitions, which is possible, but moves keys to other partitions (see docs/runbook.md)."""
        return self.what == PARTITIONS and int(self.there) < int(self.wanted)

    def __str__(self) -> str:
        return f"{self.what} is {self.there}, would be {self.wanted}"


def wanted(brokers: int) -> list[Topic]:
    """The desired topics of the running service on a cluster with this number of brokers."""
    own = [names.topic(event) for event in published()]
    dead = [names.dead_letter_topic(topic) for topic in handlers()]
    return [_topic(name, brokers, dead=False) for name in own] + [_topic(name, brokers, dead=True) for name in dead]


def _topic(name: str, brokers: int, *, dead: bool) -> Topic:
    replication = settings.KAFKA_TOPIC_REPLICATION_FACTOR or (3 if brokers >= 3 else 1)
    in_sync = settings.KAFKA_TOPIC_MIN_INSYNC_REPLICAS or (2 if replication >= 3 else 1)
    hours = settings.KAFKA_DEAD_LETTER_RETENTION_HOURS if dead else settings.KAFKA_TOPIC_RETENTION_HOURS
    config = {
        "min.insync.replicas": str(in_sync),
        "retention.ms": str(hours * HOUR_MS),
        # Kafka deletes only whole segments, when their youngest record is old enough. The broker's default, a week, would double
        # the lifetime of a record. A segment that is full (segment.bytes) is closed earlier.
        "segment.ms": str(settings.KAFKA_TOPIC_SEGMENT_HOURS * HOUR_MS),
        "max.message.bytes": str(sizes.dead_letter_topic() if dead else sizes.event_topic()),
        "cleanup.policy": "delete",
        "unclean.leader.election.enable": "false",
        # Producers compress with lz4; the broker stores their batches unchanged, instead of compressing each again.
        "compression.type": "producer",
    }
    return Topic(name, settings.KAFKA_TOPIC_PARTITIONS, replication, config)


def ensure(client: AdminClient, *, timeout: float = 30.0) -> tuple[list[str], list[str]]:
    """Create missing topics. Returns the names of created topics, and of those that existed.

    Raises KafkaException if the broker does not respond within `timeout` seconds, or refuses.
    """
    cluster = client.list_topics(timeout=timeout)
    missing = [topic for topic in wanted(len(cluster.brokers)) if topic.name not in cluster.topics]
    created = []
    if missing:
        for name, future in client.create_topics([t.as_new() for t in missing], operation_timeout=timeout).items():
            try:
                future.result()
            except KafkaException as exception:
                if exception.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            else:
                created.append(name)
    existing = [topic.name for topic in wanted(len(cluster.brokers)) if topic.name not in created]
    return created, existing


def differences(client: AdminClient, existing: Iterable[str], *, timeout: float = 30.0) -> list[Difference]:
    """The configuration drift of these existing topics, in order. Raises KafkaException."""
    cluster = client.list_topics(timeout=timeout)
    known = set(existing) & set(cluster.topics)  # not every broker may know a topic that was just created
    topics = [topic for topic in wanted(len(cluster.brokers)) if topic.name in known]
    if not topics:
        return []
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    configs = client.describe_configs(resources, request_timeout=timeout)
    found: list[Difference] = []
    for topic, resource in zip(topics, resources, strict=True):
        partitions = cluster.topics[topic.name].partitions
        copies = min((len(partition.replicas) for partition in partitions.values()), default=0)
        shape = ((PARTITIONS, len(partitions), topic.partitions), (REPLICATION, copies, topic.replication_factor))
        found += [Difference(topic.name, what, str(is_), str(should)) for what, is_, should in shape if is_ != should]
        current = configs[resource].result()
        found += [
            Difference(topic.name, name, current[name].value, value)
            for name, value in topic.config.items()
            if current[name].value != value
        ]
    return found


def apply(
    client: AdminClient, found: Iterable[Difference], *, add_partitions: bool = False, timeout: float = 30.0
) -> list[Difference]:
    """Correct the drift that can be corrected in place: settings and, with `add_partitions`, the number of partitions.

    Returns the corrected differences. A replication factor cannot be changed like this, and partitions can never be removed.
    Raises KafkaException.
    """
    configs = [difference for difference in found if difference.is_config]
    more = [difference for difference in found if add_partitions and difference.is_more_partitions]
    if configs:
        by_topic: dict[str, list[ConfigEntry]] = {}
        for one in configs:
            entry = ConfigEntry(one.what, one.wanted, incremental_operation=AlterConfigOpType.SET)
            by_topic.setdefault(one.topic, []).append(entry)
        resources = [
            ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name, entries in by_topic.items()
        ]
        _all(client.incremental_alter_configs, resources, timeout)
    if more:
        _all(client.create_partitions, [NewPartitions(one.topic, int(one.wanted)) for one in more], timeout)
    return [*configs, *more]


def _all(request: Callable[..., dict[Any, Any]], items: list[Any], timeout: float) -> None:
    for future in request(items, request_timeout=timeout).values():
        future.result()
