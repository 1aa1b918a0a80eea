"""All topics and consumer groups at once: the bounds of partitions, positions of groups, their members, and rates."""

import threading
import time
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from django.conf import settings

from chassis.kafka import clients, names
from chassis.kafka.clients import EARLIEST, LATEST
from chassis.kafka.records import Partition
from chassis.monitor.cluster import read_offsets
from chassis.monitor.committed import CommittedOffsets
from chassis.runtime.failures import DependencyDown
from console.failures import Away, NotFound
from console.sources import assignments
from console.sources.kafka import PartitionEnds, Topic, Topics, reason

REQUEST_SECONDS = 3.0
FRESH_SECONDS = 1.0
"""How long an overview is shown again instead of asking the brokers again; also how long a failure is."""
COUNTED = 32
"""Lags up to this many offsets are counted record by record: the end of a transaction, which is no record, takes an offset too."""
RATE_SECONDS = 15.0
"""The period of a rate: at most so long, and at least FRESH_SECONDS."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a group has come in a partition. `committed` is None if it has committed nothing there."""

    topic: str
    partition: int
    committed: int | None
    begin: int
    end: int
    member: str = ""
    gaps: int = 0
    """How many of the offsets after it are known to have no record: ends of transactions, for example."""

    @property
    def span(self) -> int:
        """The number of offsets after it. Without a committed offset it is at the beginning."""
        return max(0, self.end - self.start)

    @property
    def start(self) -> int:
        """The offset of the next record that the group reads."""
        return max(self.committed or 0, self.begin)

    @property
    def lag(self) -> int:
        """The number of records after it; if there are more than COUNTED, that of offsets."""
        return self.span - self.gaps

    @property
    def place(self) -> tuple[str, int, int, int]:
        """The range after it: topic, partition, first offset, and the one after the last."""
        return (self.topic, self.partition, self.start, self.end)

    def has_passed(self, offset: int) -> bool:
        """Whether the group is done with the record at this offset: it was processed, skipped or dead-lettered."""
        return self.committed is not None and self.committed > offset


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group: a running consumer."""

    id: str
    client_id: str
    host: str
    partitions: assignments.Partitions


@dataclass(frozen=True)
class Group:
    """A consumer group. `state` is Kafka's own word for it, or empty if the brokers do not know the group."""

    name: str
    state: str
    members: tuple[Member, ...]
    positions: tuple[Position, ...]

    @property
    def lag(self) -> int:
        """The sum over its partitions."""
        return sum(one.lag for one in self.positions)

    @property
    def topics(self) -> list[str]:
        """The topics that it reads."""
        return sorted({one.topic for one in self.positions})

    def position(self, topic: str, partition: int) -> Position | None:
        """Its position in a partition; None if it does not read the topic."""
        return next((one for one in self.positions if one.topic == topic and one.partition == partition), None)


@dataclass(frozen=True)
class Overview:
    """The topics and groups at a time, in seconds since the epoch."""

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
        self._committed = CommittedOffsets()
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
        try:
            topics = self._topics(self._client)
            groups = self._groups(self._client, topics)
        except (KafkaException, DependencyDown, Away) as error:
            self._client.poll(0)
            self._client = None  # after an outage a client may never get an answer again (chassis/monitor)
            return self._source.failed(reason(error))
        self._client.poll(0)
        self._source.answered()
        return Overview(time.time(), topics, groups, self._rates(topics))

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
        described = _described(client)
        consumed: dict[str, set[str]] = {}
        for source, group in map(names.dead_lettered, filter(names.is_dead_letter_topic, topics)):
            if source in topics:
                consumed.setdefault(group, set()).add(source)
        places = [TopicPartition(name, one.number) for name, topic in topics.items() for one in topic.partitions]
        found = {}
        for name in sorted(described.keys() | consumed.keys()):
            state, members = described.get(name, ("", ()))
            committed = self._committed.read(name, places)
            read = {topic for topic, _ in committed} | consumed.get(name, set())
            if read or members:
                found[name] = Group(name, state, members, _positions(topics, read, committed, members))
        return self._without_gaps(found)

    def _without_gaps(self, groups: dict[str, Group]) -> dict[str, Group]:
        """The groups with lags that count records. What was counted before is not read again."""
        small = {one for group in groups.values() for one in group.positions if 0 < one.span <= COUNTED}
        wanted: dict[str, dict[int, tuple[int, int]]] = {}
        for one in small:
            if one.place not in self._gaps:
                wanted.setdefault(one.topic, {})[one.partition] = (one.start, one.end)
        for topic, ranges in wanted.items():
            for number, count in self._reader.count(topic, ranges).items():
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


def _described(client: AdminClient) -> dict[str, tuple[str, tuple[Member, ...]]]:
    """State and members of each group. The deprecated call, for the reasons that chassis/monitor/cluster.py gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = client.list_groups(timeout=REQUEST_SECONDS)
    kinds = {"consumer", ""}
    return {
        str(group.id): (str(group.state), tuple(map(_member, group.members)))
        for group in found
        if not group.error and group.protocol_type in kinds and str(group.id).startswith(settings.KAFKA_PREFIX)
    }


def _member(member: object) -> Member:
    return Member(
        str(getattr(member, "id", "")),
        str(getattr(member, "client_id", "")),
        str(getattr(member, "client_host", "")).removeprefix("/"),
        assignments.decode(getattr(member, "assignment", None) or b""),
    )


def _positions(
    topics: Mapping[str, Topic], read: set[str], committed: Mapping[Partition, int], members: tuple[Member, ...]
) -> tuple[Position, ...]:
    owners = {place: member.id for member in members for place in member.partitions}
    return tuple(
        Position(
            name,
            one.number,
            committed.get((name, one.number)),
            max(0, one.begin),
            max(0, one.end),
            owners.get((name, one.number), ""),
        )
        for name in sorted(read)
        for one in topics[name].partitions
    )
