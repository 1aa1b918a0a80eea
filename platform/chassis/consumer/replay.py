"""Replay: reset the offsets of a consumer group, so that events are read again. Inbox and natural keys prevent second effects.

A group's offsets can be set only while it has no members: a running consumer would continue at its position and overwrite
them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from chassis.kafka import clients, partition_offsets, topic_reader
from chassis.kafka.records import Partition

BEGINNING = "beginning"
IN_USE = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP, KafkaError.REBALANCE_IN_PROGRESS}
"""The errors that a broker returns for a group that has members."""


class BadStart(ValueError):
    """A replay starts at `beginning`, at an ISO 8601 time with a time zone (2026-11-23T12:00:00Z), or at an offset."""


class GroupInUse(Exception):
    """The group has members, so its offsets cannot be set: stop its consumers first."""

    def __init__(self, group: str) -> None:
        super().__init__(
            f"group {group} has live members: stop its consumers first"
            " (a killed consumer remains a member until its session times out)"
        )


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a replay: a time, an offset, or, if both are None, the beginning."""

    time: datetime | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Rewound:
    """A partition whose offset was set: the group's previous offset (None if it had none), the new one, and the end."""

    topic: str
    partition: int
    before: int | None
    now: int
    end: int


def parse(text: str) -> Start:
    """Parse the value of `--replay-from`. Raises BadStart."""
    if text == BEGINNING:
        return Start()
    if text.isdecimal():
        return Start(offset=int(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadStart(f"{text!r} is not `beginning`, a time such as 2026-11-23T12:00:00Z, or an offset") from None
    if time.tzinfo is None:
        raise BadStart(f"{text!r} has no time zone: append Z for UTC")
    return Start(time=time.astimezone(UTC))


def rewind(
    client: AdminClient, group: str, topics: Iterable[str], start: Start, *, timeout: float = 10.0
) -> list[Rewound]:
    """Set the committed offsets of a group to `start` in every partition of these topics, and return the changes.

    An offset that a partition no longer has, or does not have yet, is replaced with its first or its next one; a time, with
    the first record at that time or later. Raises GroupInUse, and KafkaException for any other error of the broker.
    """
    known = client.list_topics(timeout=timeout).topics
    places = [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]

    def read(spec: OffsetSpec) -> dict[Partition, int]:
        return topic_reader.settled(lambda: partition_offsets.read(client, places, spec, timeout=timeout))

    first, end = read(clients.EARLIEST), read(clients.LATEST)
    wanted = {place: _wanted(start, first[place], end[place]) for place in first}
    if start.time is not None:
        found = read(OffsetSpec.for_timestamp(int(start.time.timestamp() * 1000)))
        wanted = {place: offset if offset >= 0 else end[place] for place, offset in found.items()}
    reader = clients.reader(group)
    try:
        before = topic_reader.committed(reader, wanted)
        _commit(reader, group, wanted)
    finally:
        reader.close()
    return [Rewound(*place, before.get(place), offset, end[place]) for place, offset in sorted(wanted.items())]


def _wanted(start: Start, first: int, end: int) -> int:
    return first if start.offset is None else min(max(start.offset, first), end)


def _commit(reader: Consumer, group: str, offsets: dict[Partition, int]) -> None:
    """Commit as a client outside the group, which a broker allows only while the group has no members."""
    places = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
    try:
        done = reader.commit(offsets=places, asynchronous=False)
    except KafkaException as exception:
        raise GroupInUse(group) if exception.args[0].code() in IN_USE else exception from exception
    for place in done or ():
        if place.error is not None:
            raise GroupInUse(group) if place.error.code() in IN_USE else KafkaException(place.error)
