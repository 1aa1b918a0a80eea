"""What a consumer measures now and then, and not at every event: how much waits, and where. The outbox: outbox_gauges.py."""

import time
from collections import Counter
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from chassis.consumer.backlog import Backlog
from chassis.kafka.records import Partition
from chassis.observability import metrics

EVERY_SECONDS = 5.0
PATIENCE_SECONDS = 0.5
"""So long the loop may stand to ask the broker where a partition begins."""


class Clock:
    """Says when it is time to measure again."""

    def __init__(self) -> None:
        self._next = 0.0

    def rings(self) -> bool:
        """Whether EVERY_SECONDS have passed since it last did."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + EVERY_SECONDS
        return True


def measure_consumer(client: Consumer, assigned: Iterable[Partition], backlog: Backlog) -> None:
    """Set lag and held events of the partitions that this consumer owns.

    The lag is from the watermarks that the last fetch brought, so it asks no broker, but once for a new partition. The
    marker that ends a Kafka transaction is an offset too: behind a transactional producer the lag at rest is 1.
    """
    held: Counter[str] = Counter()
    for partition in assigned:
        topic, number = partition
        held[topic] += backlog.held(partition)[0]
        try:
            if backlog.done(partition) is None:
                backlog.begin(partition, _begin(client, TopicPartition(topic, number)))
            _, high = client.get_watermark_offsets(TopicPartition(topic, number), cached=True)
        except KafkaException:
            continue  # it does not answer, or nothing is fetched yet
        done = backlog.done(partition)
        if high >= 0 and done is not None:
            metrics.CONSUMER_LAG.labels(topic, str(number)).set(max(0, high - done))
    for topic, events in held.items():
        metrics.EVENTS_HELD.labels(topic).set(events)


def _begin(client: Consumer, partition: TopicPartition) -> int:
    """Where the group stands in a partition: what it has committed, or else where the partition begins."""
    [found] = client.committed([partition], timeout=PATIENCE_SECONDS)
    if found.offset >= 0:
        return found.offset
    low, _ = client.get_watermark_offsets(partition, timeout=PATIENCE_SECONDS)
    return low


def forget_consumer(partitions: Iterable[Partition]) -> None:
    """These partitions are another consumer's now: it says what their lag is."""
    for topic, number in partitions:
        metrics.CONSUMER_LAG.remove(topic, str(number))
