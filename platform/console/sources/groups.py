"""Consumer groups: their members, how far each has come, and their committed offsets, which are read in bounded time."""

import time
import warnings
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from django.conf import settings

from chassis.kafka.records import Partition
from chassis.monitor.committed import CommittedOffsets
from console.sources import assignments
from console.sources.kafka import REQUEST_SECONDS, Topic

COUNTED = 32
"""Lags up to this many offsets are counted record by record: the end of a transaction, which is no record, takes an offset too."""
READ_SECONDS = 1.5
"""How long offsets are read. A request to a broker, which takes some milliseconds, is needed for each group."""
AT_ONCE = 8
"""How many groups are read at the same time; at least so many each time, however long it takes."""


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
    read_at: float | None
    """When its committed offsets were read, in seconds since the epoch; None if they never were, so that it has no positions."""

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


@dataclass(frozen=True, slots=True)
class Committed:
    """The committed offsets of a group, as they were at a time, in seconds since the epoch."""

    at: float
    offsets: Mapping[Partition, int]


class GroupOffsets:
    """Reads the committed offsets of all groups, each time as many as possible in READ_SECONDS, and remembers them."""

    def __init__(self) -> None:
        self._clients = CommittedOffsets()
        self._known: dict[str, Committed] = {}

    def read(self, groups: Collection[str], places: list[TopicPartition]) -> Mapping[str, Committed]:
        """Read the groups that were not read for the longest time. Returns the offsets of all that were ever read.

        Raises KafkaException if none of them could be read. To be called by one thread at a time.
        """
        self._clients.keep_only(groups)
        self._known = {name: self._known[name] for name in groups if name in self._known}
        waiting = sorted(groups, key=lambda name: self._known[name].at if name in self._known else 0.0)
        deadline = time.monotonic() + READ_SECONDS
        failures: list[KafkaException] = []

        def read(number: int, name: str) -> bool:
            if number >= AT_ONCE and time.monotonic() > deadline:
                return False
            try:
                self._known[name] = Committed(time.time(), self._clients.read(name, places))
            except KafkaException as error:  # its coordinator is moving, for example
                failures.append(error)
            return True

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="offsets") as pool:
            tried = sum(pool.map(read, range(len(waiting)), waiting))
        if failures and len(failures) == tried:
            raise failures[0]
        return dict(self._known)


def described(client: AdminClient) -> dict[str, tuple[str, tuple[Member, ...]]]:
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


def positions(
    topics: Mapping[str, Topic], read: set[str], committed: Mapping[Partition, int], members: tuple[Member, ...]
) -> tuple[Position, ...]:
    """How far a group has come in the topics that it reads."""
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
