"""The gauges that a consumer updates periodically: lag and held events. Those of the outbox are in outbox/gauges.py."""

import time
from collections import Counter
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from chassis.consumer.backlog import Backlog
from chassis.kafka.records import Partition
from chassis.observability import metrics

EVERY_SECONDS = 5.0
PATIENCE_SECONDS = 0.5
"""How long the loop may wait for the broker to return the start of a partition."""


class Timer:
    """Tells when it is time to measure again."""

    def __init__(self) -> None:
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether EVERY_SECONDS have passed since this last returned True."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + EVERY_SECONDS
        return True


def measure_consumer(client: Consumer, assigned: Iterable[Partition], backlog: Backlog) -> None:
    """Set the lag and the number of held events of the partitions that this consumer owns.

    The lag is computed from the watermarks of the last fetch, without a request to the broker, except once per new partition.
    The marker that ends a Kafka transaction has an offset too, so the lag behind a transactional producer is 1 at rest.
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
            continue  # the broker does not respond, or nothing has been fetched yet
        done = backlog.done(partition)
        if high >= 0 and done is not None:
            metrics.CONSUMER_LAG.labels(topic, str(number)).set(max(0, high - done))
    for topic, events in held.items():
        metrics.EVENTS_HELD.labels(topic).set(events)


def _begin(client: Consumer, partition: TopicPartition) -> int:
    """The group's committed offset in a partition, or the start of the partition if it has none."""
    [found] = client.committed([partition], timeout=PATIENCE_SECONDS)
    if found.offset >= 0:
        return found.offset
    low, _ = client.get_watermark_offsets(partition, timeout=PATIENCE_SECONDS)
    return low


def forget_consumer(partitions: Iterable[Partition]) -> None:
    """Remove the lag of partitions that another consumer owns now, which reports it."""
    for topic, number in partitions:
        metrics.CONSUMER_LAG.remove(topic, str(number))
