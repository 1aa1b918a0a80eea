"""The topics of a service: those it publishes, and the dead-letter topics of those it consumes. Nothing makes topics by itself."""

from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from django.conf import settings

from chassis.messaging import deadletters, kafka
from chassis.messaging.registry import handlers, published

HOUR_MS = 3_600_000


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


def wanted(brokers: int) -> list[Topic]:
    """The topics of the running service on a cluster of `brokers`."""
    names = [event.topic for event in published()]
    dead = [deadletters.topic_of(topic) for topic in handlers()]
    return [_topic(name, brokers, dead=False) for name in names] + [_topic(name, brokers, dead=True) for name in dead]


def _topic(name: str, brokers: int, *, dead: bool) -> Topic:
    replication = settings.KAFKA_TOPIC_REPLICATION_FACTOR or (3 if brokers >= 3 else 1)
    in_sync = settings.KAFKA_TOPIC_MIN_INSYNC_REPLICAS or (2 if replication >= 3 else 1)
    hours = settings.KAFKA_DEAD_LETTER_RETENTION_HOURS if dead else settings.KAFKA_TOPIC_RETENTION_HOURS
    largest = settings.KAFKA_MAX_MESSAGE_BYTES + (kafka.DEAD_LETTER_HEADROOM if dead else 0)
    config = {
        "min.insync.replicas": str(in_sync),
        "retention.ms": str(hours * HOUR_MS),
        # A record's own headers are not in KAFKA_MAX_MESSAGE_BYTES; the broker counts them.
        "max.message.bytes": str(largest + kafka.DEAD_LETTER_HEADROOM),
        "cleanup.policy": "delete",
        "unclean.leader.election.enable": "false",
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
