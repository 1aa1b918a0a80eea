"""All topics and consumer groups at once: the bounds of partitions, positions of groups, their members, and rates."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from django.conf import settings

from chassis.kafka import clients, names
from chassis.kafka.clients import EARLIEST, LATEST
from chassis.monitor.cluster import read_offsets
from chassis.runtime.failures import DependencyDown
from console.failures import Away, NotFound
from console.sources.groups import COUNTED, Group, GroupOffsets, described, positions
from console.sources.kafka import REQUEST_SECONDS, PartitionEnds, Topic, Topics, reason

FRESH_SECONDS = 1.0
"""How long an overview is shown again instead of asking the brokers again; also how long a failure is."""
COUNT_SECONDS = 1.5
"""How long records are counted; a lag that was not counted by then is that of offsets."""
RATE_SECONDS = 15.0
"""The period of a rate: at most so long, and at least FRESH_SECONDS."""


@dataclass(frozen=True)
class Overview:
    """The topics and groups. `at` is when they began to be read, in seconds since the epoch."""

    at: float
    topics: Mapping[str, Topic]
    groups: Mapping[str, Group]
    rates: Mapping[str, float]
    """New offsets per second of each topic; a topic that was not measured before has none."""

    @cached_property
    def readers(self) -> Mapping[str, list[Group]]:
        """The groups that read each topic."""
        found: dict[str, list[Group]] = {}
        for group in self.groups.values():
            for topic in group.topics:
                found.setdefault(topic, []).append(group)
        return found

    @cached_property
    def behind(self) -> list[Group]:
        """The groups whose offsets could not be read this time: there was not enough, or their broker did not respond."""
        return [group for group in self.groups.values() if group.read_at is None or group.read_at < self.at]

    @property
    def oldest(self) -> float:
        """The age of the oldest offsets of a group, in seconds."""
        return max((self.at - group.read_at for group in self.behind if group.read_at is not None), default=0.0)

    def topic(self, name: str) -> Topic:
        """A topic. Raises NotFound."""
        if name not in self.topics:
            raise NotFound(f"There is no topic {name[:249]!r}.")
        return self.topics[name]

    def group(self, name: str) -> Group:
        """A group. Raises NotFound."""
        if name not in self.groups:
            raise NotFound(f"There is no consumer group {name[:249]!r}.")
        return self.groups[name]


class Cluster:
    """Reads the overview, at most once in FRESH_SECONDS. Safe to use from several threads."""

    def __init__(self, topics: Topics) -> None:
        self._source = topics.source
        self._reader = topics
        self._lock = threading.Lock()
        self._client: AdminClient | None = None
        self._offsets = GroupOffsets()
        self._last: Overview | Away | None = None
        self._read_at = 0.0
        self._ends: deque[tuple[float, dict[str, int]]] = deque()
        self._gaps: dict[tuple[str, int, int, int], int] = {}

    def overview(self) -> Overview:
        """The present state. Raises Away."""
        with self._lock:
            if self._last is None or time.monotonic() - self._read_at > FRESH_SECONDS:
                self._last = self._read()
                self._read_at = time.monotonic()
            if isinstance(self._last, Away):
                raise Away(self._last.source, self._last.reason)
            return self._last

    def _read(self) -> Overview | Away:
        self._client = self._client or clients.admin()
        at = time.time()
        try:
            topics = self._topics(self._client)
            groups = self._groups(self._client, topics)
        except (KafkaException, DependencyDown, Away) as error:
            self._client.poll(0)
            self._client = None  # after an outage a client may never get an answer again (chassis/monitor)
            return self._source.failed(reason(error))
        self._client.poll(0)
        self._source.answered()
        return Overview(at, topics, groups, self._rates(topics))

    def _topics(self, client: AdminClient) -> dict[str, Topic]:
        known = {
            name: sorted(topic.partitions)
            for name, topic in client.list_topics(timeout=REQUEST_SECONDS).topics.items()
            if name.startswith(settings.KAFKA_PREFIX) and names.is_legal(name)
        }
        places = [TopicPartition(name, number) for name, numbers in known.items() for number in numbers]
        begins, ends = read_offsets(client, places, EARLIEST), read_offsets(client, places, LATEST)
        if places and not ends:
            raise DependencyDown("no partition's leader responds")

        def partition(name: str, number: int) -> PartitionEnds:
            return PartitionEnds(number, begins.get((name, number), -1), ends.get((name, number), -1))

        return {name: Topic(name, tuple(partition(name, number) for number in known[name])) for name in sorted(known)}

    def _groups(self, client: AdminClient, topics: Mapping[str, Topic]) -> dict[str, Group]:
        known = described(client)
        consumed: dict[str, set[str]] = {}
        for source, group in map(names.dead_lettered, filter(names.is_dead_letter_topic, topics)):
            if source in topics:
                consumed.setdefault(group, set()).add(source)
        places = [TopicPartition(name, one.number) for name, topic in topics.items() for one in topic.partitions]
        every = sorted(known.keys() | consumed.keys())
        offsets = self._offsets.read(every, places)
        found = {}
        for name in every:
            state, members = known.get(name, ("", ()))
            own = offsets.get(name)
            if own is None:
                found[name] = Group(name, state, members, (), None)
                continue
            read = {topic for topic, _ in own.offsets} & topics.keys() | consumed.get(name, set())
            if read or members:
                found[name] = Group(name, state, members, positions(topics, read, own.offsets, members), own.at)
        return self._without_gaps(found)

    def _without_gaps(self, groups: dict[str, Group]) -> dict[str, Group]:
        """The groups with lags that count records. What was counted before is not read again."""
        small = {one for group in groups.values() for one in group.positions if 0 < one.span <= COUNTED}
        wanted: dict[str, dict[int, tuple[int, int]]] = {}
        for one in small:
            if one.place not in self._gaps:
                wanted.setdefault(one.topic, {})[one.partition] = (one.start, one.end)
        deadline = time.monotonic() + COUNT_SECONDS
        for topic, ranges in wanted.items():
            if (left := deadline - time.monotonic()) <= 0:
                break
            for number, count in self._reader.count(topic, ranges, left).items():
                start, end = ranges[number]
                self._gaps[topic, number, start, end] = end - start - count
        self._gaps = {one.place: self._gaps[one.place] for one in small if one.place in self._gaps}
        return {
            name: replace(group, positions=tuple(replace(p, gaps=self._gaps.get(p.place, 0)) for p in group.positions))
            for name, group in groups.items()
        }

    def _rates(self, topics: Mapping[str, Topic]) -> dict[str, float]:
        now = time.monotonic()
        ends = {name: sum(one.end for one in topic.partitions) for name, topic in topics.items()}
        while len(self._ends) > 1 and now - self._ends[1][0] >= RATE_SECONDS:
            self._ends.popleft()
        rates = {}
        if self._ends:
            then, before = self._ends[0]
            rates = {name: max(0, end - before[name]) / (now - then) for name, end in ends.items() if name in before}
        self._ends.append((now, ends))
        return rates
