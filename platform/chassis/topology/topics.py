"""The topics of a service: those it publishes, and the dead-letter topics of those it consumes. Nothing makes topics by itself."""

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
    """A topic as it should be."""

    name: str
    partitions: int
    replication_factor: int
    config: dict[str, str]

    def as_new(self) -> NewTopic:
        """The request that makes it."""
        return NewTopic(
            self.name,
            num_partitions=self.partitions,
            replication_factor=self.replication_factor,
            config=self.config,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """What is otherwise on an existing topic than this service would make it."""

    topic: str
    what: str
    """A configuration's name, or PARTITIONS, or REPLICATION."""
    there: str
    wanted: str

    @property
    def is_config(self) -> bool:
        """Whether it can be changed at any time, without moving a record."""
        return self.what not in {PARTITIONS, REPLICATION}

    @property
    def is_more_partitions(self) -> bool:
        """Whether it asks for more partitions: that can be done, but keys move to others (see docs/runbook.md)."""
        return self.what == PARTITIONS and int(self.there) < int(self.wanted)

    def __str__(self) -> str:
        return f"{self.what} is {self.there}, would be {self.wanted}"


def wanted(brokers: int) -> list[Topic]:
    """The topics of the running service on a cluster of `brokers`."""
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
        # Only whole segments are deleted, each when its youngest record is old. The broker's default, a week, would double
        # the life of a record; it may still begin one earlier, when this one is full (segment.bytes).
        "segment.ms": str(settings.KAFKA_TOPIC_SEGMENT_HOURS * HOUR_MS),
        "max.message.bytes": str(sizes.dead_letter_topic() if dead else sizes.event_topic()),
        "cleanup.policy": "delete",
        "unclean.leader.election.enable": "false",
        # Our producers compress with lz4; the broker keeps what it gets, and need not pack each small batch again.
        "compression.type": "producer",
    }
    return Topic(name, settings.KAFKA_TOPIC_PARTITIONS, replication, config)


def ensure(client: AdminClient, *, timeout: float = 30.0) -> tuple[list[str], list[str]]:
    """Make the topics that are missing. Returns the names that were made and those that were there.

    Raises KafkaException when the broker does not answer within `timeout` seconds, or refuses.
    """
    cluster = client.list_topics(timeout=timeout)
    missing = [topic for topic in wanted(len(cluster.brokers)) if topic.name not in cluster.topics]
    made = []
    if missing:
        for name, future in client.create_topics([t.as_new() for t in missing], operation_timeout=timeout).items():
            try:
                future.result()
            except KafkaException as exception:
                if exception.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            else:
                made.append(name)
    there = [topic.name for topic in wanted(len(cluster.brokers)) if topic.name not in made]
    return made, there


def differences(client: AdminClient, existing: Iterable[str], *, timeout: float = 30.0) -> list[Difference]:
    """What is otherwise on these existing topics of ours than we would make them, in order. Raises KafkaException."""
    cluster = client.list_topics(timeout=timeout)
    known = set(existing) & set(cluster.topics)  # one that another has just made may not be known everywhere yet
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
        said = configs[resource].result()
        found += [
            Difference(topic.name, name, said[name].value, value)
            for name, value in topic.config.items()
            if said[name].value != value
        ]
    return found


def apply(
    client: AdminClient, found: Iterable[Difference], *, add_partitions: bool = False, timeout: float = 30.0
) -> list[Difference]:
    """Change what can be changed in place, and return what was: configurations, and with `add_partitions` these too.

    A replication factor cannot be changed like this, and partitions can never be taken away. Raises KafkaException.
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


def _all(request: Callable[..., dict[Any, Any]], things: list[Any], timeout: float) -> None:
    for future in request(things, request_timeout=timeout).values():
        future.result()
