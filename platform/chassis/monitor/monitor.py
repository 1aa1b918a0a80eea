"""The monitor: measures the cluster every few seconds by its own clock, whether or not its metrics are scraped."""

import threading
import time
from contextlib import suppress

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from chassis.kafka import clients, names
from chassis.kafka.clients import EARLIEST, LATEST
from chassis.kafka.records import Partition
from chassis.monitor import cluster
from chassis.monitor.committed import CommittedOffsets
from chassis.monitor.fresh import Fresh, Series
from chassis.observability import metrics
from chassis.runtime.dependency import Dependency
from chassis.runtime.failures import DependencyDown
from chassis.runtime.shutdown import Heartbeat

EVERY_SECONDS = 5.0
GROUPS_SECONDS = 10.0
"""How long a round reads committed offsets. Groups that were read longest ago come first, so that all get their turn."""

Values = dict[tuple[str, ...], float]
"""The values of a gauge by its labels."""


def run(heartbeat: Heartbeat, ended: threading.Event) -> None:
    """Measure every EVERY_SECONDS until `ended` is set."""
    monitor = Monitor(heartbeat, ended)
    while not ended.is_set():
        started = time.monotonic()
        monitor.measure()
        ended.wait(max(0.0, started + EVERY_SECONDS - time.monotonic()))


class Monitor:
    """Measures, and sets the metrics. What does not respond any more is reported for KEPT_SECONDS (fresh.py), then removed."""

    def __init__(self, heartbeat: Heartbeat, ended: threading.Event) -> None:
        self._heartbeat = heartbeat
        self._ended = ended
        self._broker = Dependency("broker")
        self._heartbeat.watch(self._broker)
        self._client: AdminClient | None = None
        self._committed_offsets = CommittedOffsets()
        self._read_at: dict[str, float] = {}
        self._topics: Fresh[str, int] = Fresh()
        self._members: Fresh[str, int] = Fresh()
        self._committed: Fresh[str, dict[Partition, int]] = Fresh()
        self._begins: Fresh[Partition, int] = Fresh()
        self._ends: Fresh[Partition, int] = Fresh()
        self._series = {
            gauge: Series(gauge)
            for gauge in (
                metrics.KAFKA_TOPIC_PARTITIONS,
                metrics.KAFKA_GROUP_MEMBERS,
                metrics.KAFKA_GROUP_OFFSET,
                metrics.KAFKA_GROUP_LAG,
                metrics.KAFKA_DEAD_LETTERS,
            )
        }

    def measure(self) -> None:
        """Measure once. An error of the brokers is reported by `kafka_up`, and the next round uses a new client."""
        self._heartbeat.beat()
        if self._client is None:
            self._client = clients.admin()
        try:
            self._measure(self._client)
        except (KafkaException, DependencyDown) as error:
            self._client.poll(0)  # delivers the reason, such as rejected credentials, to the error callback
            self._client = None
            self._broker.failed(error)
            metrics.KAFKA_BROKERS.set(0)
        else:
            self._client.poll(0)
            self._broker.answered()
        metrics.KAFKA_UP.set(self._broker.up)
        self._export()

    def _measure(self, client: AdminClient) -> None:
        brokers, topics = cluster.read_topics(client)
        metrics.KAFKA_BROKERS.set(brokers)
        self._topics.update(topics)
        # The brokers do not know a group that has never had a member, but they know its dead-letter topics.
        consumers = _consumed(topics).keys()
        with suppress(KafkaException):  # a broker of several is down
            self._members.update(dict.fromkeys(consumers, 0) | cluster.read_members(client))
        places = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        self._read_groups(consumers | self._members.values().keys(), places)
        self._begins.update(cluster.read_offsets(client, places, EARLIEST))
        ends = cluster.read_offsets(client, places, LATEST)
        self._ends.update(ends)
        if places and not ends:
            raise DependencyDown("no partition's leader responds")

    def _read_groups(self, groups: set[str], places: list[TopicPartition]) -> None:
        self._committed_offsets.keep_only(groups)
        self._read_at = {group: self._read_at.get(group, 0.0) for group in groups}
        deadline = time.monotonic() + GROUPS_SECONDS
        for group in sorted(groups, key=lambda one: self._read_at[one]):
            self._heartbeat.beat()
            self._read_at[group] = time.monotonic()
            with suppress(KafkaException):  # its coordinator is down or moving
                self._committed.update({group: self._committed_offsets.read(group, places)})
            if self._ended.is_set() or time.monotonic() > deadline:
                return

    def _export(self) -> None:
        topics, committed = self._topics.values(), self._committed.values()
        begins, ends = self._begins.values(), self._ends.values()
        consumed = _consumed(topics)
        offsets: Values = {}
        lags: Values = {}
        for group, places in committed.items():
            positions = {place: offset for place, offset in places.items() if place[0] in topics}
            read = {topic for topic, _ in positions} | consumed.get(group, set())
            offsets |= _by_labels(group, positions)
            lags |= _by_labels(group, _lags(read, positions, begins, ends))
        self._series[metrics.KAFKA_TOPIC_PARTITIONS].replace({(topic,): count for topic, count in topics.items()})
        self._series[metrics.KAFKA_GROUP_MEMBERS].replace(
            {(group,): count for group, count in self._members.values().items()}
        )
        self._series[metrics.KAFKA_GROUP_OFFSET].replace(offsets)
        self._series[metrics.KAFKA_GROUP_LAG].replace(lags)
        self._series[metrics.KAFKA_DEAD_LETTERS].replace(_dead_letters(topics, begins, ends))


def _by_labels(group: str, values: dict[Partition, int]) -> Values:
    return {(group, topic, str(number)): value for (topic, number), value in values.items()}


def _consumed(topics: dict[str, int]) -> dict[str, set[str]]:
    """The topics that each consumer group reads, as far as it has dead-letter topics for them."""
    found: dict[str, set[str]] = {}
    for topic in filter(names.is_dead_letter_topic, topics):
        source, group = names.dead_lettered(topic)
        if source in topics:
            found.setdefault(group, set()).add(source)
    return found


def _lags(
    read: set[str], positions: dict[Partition, int], begins: dict[Partition, int], ends: dict[Partition, int]
) -> dict[Partition, int]:
    """The number of records after a group's position, in each partition of the topics that it reads.

    Without a committed offset it is at the beginning of the partition, where our consumers start.
    """
    return {
        place: max(0, end - max(positions.get(place, 0), begins[place]))
        for place, end in ends.items()
        if place[0] in read and place in begins
    }


def _dead_letters(topics: dict[str, int], begins: dict[Partition, int], ends: dict[Partition, int]) -> Values:
    """The number of records in each dead-letter topic of which all partitions are known."""
    found: Values = {}
    for topic, count in topics.items():
        places = [(topic, number) for number in range(count)]
        if names.is_dead_letter_topic(topic) and all(place in begins and place in ends for place in places):
            found[(topic,)] = sum(ends[place] - begins[place] for place in places)
    return found
