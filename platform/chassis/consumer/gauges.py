"""The gauges of a consumer: lag, held events and blocked keys, set also while its loop waits or one of its handlers hangs.

Those of the outbox are in outbox/gauges.py.
"""

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from chassis.consumer.backlog import Backlog
from chassis.kafka import clients, partition_offsets, renewal
from chassis.kafka.clients import EARLIEST, LATEST
from chassis.kafka.records import Partition
from chassis.observability import metrics
from chassis.runtime.background import in_background

EVERY_SECONDS = 5.0
PATIENCE_SECONDS = 0.5
"""How long the loop may wait for the broker to return committed offsets, and the starts of partitions."""
ANSWER_SECONDS = 1.0
"""How long the thread waits for the broker to return the ends of the partitions."""


class ConsumerGauges:
    """Sets the gauges of the partitions in `assigned`, a set that the loop changes, and of `topics`.

    The loop calls `turned` in each iteration. Every EVERY_SECONDS it notes how far the client has fetched, without a request
    to the broker. A thread sets the gauges from this and from the backlog's counts; the partitions' ends, which the loop does
    not note while it hangs, it then requests from the broker.
    """

    def __init__(
        self, client: Consumer, backlog: Backlog, topics: Iterable[str], assigned: Collection[Partition]
    ) -> None:
        self._client = client
        self._admin = renewal.Renewed(clients.admin)
        self._backlog = backlog
        self._topics = tuple(topics)
        self._assigned = assigned
        self._ends: dict[Partition, int] = {}
        self._starts: dict[Partition, int] = {}
        """The starts of partitions in which the group has finished nothing yet."""
        self._noted_at = 0.0
        self._lock = threading.Lock()
        """Held while gauges are set, so that none reappears that `forget` has removed."""

    # --- in the loop ---

    def turned(self) -> None:
        """Note the ends of the partitions, as of their last fetch, and set the gauges; at most every EVERY_SECONDS."""
        now = time.monotonic()
        if now - self._noted_at < EVERY_SECONDS:
            return
        self._noted_at = now
        self._begin([partition for partition in self._assigned if self._backlog.done(partition) is None])
        for partition in self._assigned:
            topic, number = partition
            if self._backlog.done(partition) is None:
                continue  # the broker does not respond
            try:
                _, end = self._client.get_watermark_offsets(TopicPartition(topic, number), cached=True)
            except KafkaException:
                continue  # nothing has been fetched yet
            self._ends[partition] = end
        self.measure()

    def _begin(self, partitions: Collection[Partition]) -> None:
        """Note where the group begins in these partitions: at its committed offset or, without one, at the partition's start.

        One request for all: on the connection of the consumer, each would wait for the fetch before it, up to half a second.
        """
        if not partitions:
            return
        places = [TopicPartition(*partition) for partition in partitions]
        try:
            found = [one for one in self._client.committed(places, timeout=PATIENCE_SECONDS) if one.error is None]
            new = [TopicPartition(one.topic, one.partition) for one in found if one.offset < 0]
            starts = self._admin.ask(
                lambda admin: partition_offsets.read(admin, new, EARLIEST, timeout=PATIENCE_SECONDS, partial=True)
            )
        except KafkaException:
            return
        finally:
            self._admin.get().poll(0)  # librdkafka queues its log messages until it is polled
        for one in found:
            place = (one.topic, one.partition)
            if (offset := one.offset if one.offset >= 0 else starts.get(place)) is not None:
                self._backlog.begin(place, offset)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Remove the lag of partitions that another consumer owns now, which reports it."""
        with self._lock:
            for partition in partitions:
                self._ends.pop(partition, None)
                metrics.CONSUMER_LAG.remove(partition[0], str(partition[1]))

    # --- in the thread ---

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Set the gauges every EVERY_SECONDS while the body, the loop, runs."""
        with in_background("consumer-gauges", self._keep_measuring):
            yield

    def _keep_measuring(self, ended: threading.Event) -> None:
        while not ended.wait(EVERY_SECONDS):
            if time.monotonic() - self._noted_at > 2 * EVERY_SECONDS:
                self._ask_ends()
            self.measure()

    def _ask_ends(self) -> None:
        """Request the ends of the partitions from the broker. If it does not respond, those of the last time remain."""
        assigned = tuple(self._assigned)  # atomic
        try:
            ends = self._offsets(assigned, LATEST)
            starts = self._offsets([one for one in assigned if self._backlog.done(one) is None], EARLIEST)
        except KafkaException:
            return
        finally:
            self._admin.get().poll(0)  # librdkafka queues its log messages until it is polled
        with self._lock:
            self._ends |= {partition: end for partition, end in ends.items() if partition in self._assigned}
            self._starts = starts

    def _offsets(self, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        places = [TopicPartition(*partition) for partition in partitions]
        committed = IsolationLevel.READ_COMMITTED
        return self._admin.ask(
            lambda admin: partition_offsets.read(
                admin, places, spec, timeout=ANSWER_SECONDS, isolation=committed, partial=True
            )
        )

    def measure(self) -> None:
        """Set the gauges from what is known.

        The marker that ends a Kafka transaction has an offset too, so the lag behind a transactional producer is 1 at rest.
        """
        held: Counter[str] = Counter()
        for (topic, _), number in self._backlog.held_events.items():
            held[topic] += number
        blocked = self._backlog.blocked_keys
        for topic in self._topics:
            metrics.EVENTS_HELD.labels(topic).set(held[topic])
            metrics.EVENTS_BLOCKED_KEYS.labels(topic).set(blocked[topic])
        with self._lock:
            for partition, end in self._ends.items():
                done = self._backlog.done(partition)
                done = self._starts.get(partition) if done is None else done
                if end >= 0 and done is not None:
                    metrics.CONSUMER_LAG.labels(partition[0], str(partition[1])).set(max(0, end - done))
