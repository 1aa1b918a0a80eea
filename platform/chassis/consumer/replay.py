"""Replay: set a consumer group back, so that events come again. Inbox and natural keys see to it that nothing happens twice.

A group's offsets can be set only while it has no member: a consumer that runs would go on where it is, and overwrite them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from chassis.kafka import clients, topic_reader
from chassis.kafka.records import Partition

BEGINNING = "beginning"
IN_USE = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP, KafkaError.REBALANCE_IN_PROGRESS}
"""What a broker says of a group that has members."""


class BadStart(ValueError):
    """A replay starts at `beginning`, at a time in ISO 8601 with its zone (2026-11-23T12:00:00Z), or at an offset."""


class GroupInUse(Exception):
    """The group has members, whose offsets cannot be set from outside: stop them first."""

    def __init__(self, group: str) -> None:
        super().__init__(
            f"group {group} has live members: stop its consumers first"
            " (one that was killed is a member until its session has timed out)"
        )


@dataclass(frozen=True, slots=True)
class Start:
    """Where a replay starts: at a time, at an offset, or (neither) at the beginning."""

    time: datetime | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Rewound:
    """A partition that was set back: where the group stood (None: nowhere yet), and where it stands now."""

    topic: str
    partition: int
    before: int | None
    now: int
    end: int


def parse(text: str) -> Start:
    """What `--replay-from` says. Raises BadStart."""
    if text == BEGINNING:
        return Start()
    if text.isdecimal():
        return Start(offset=int(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadStart(f"{text!r} is none of `beginning`, a time such as 2026-11-23T12:00:00Z, an offset") from None
    if time.tzinfo is None:
        raise BadStart(f"{text!r} has no time zone: append Z for UTC")
    return Start(time=time.astimezone(UTC))


def rewind(
    client: AdminClient, group: str, topics: Iterable[str], start: Start, *, timeout: float = 10.0
) -> list[Rewound]:
    """Set the committed offsets of a group to `start`, on every partition of these topics, and return what was done.

    An offset that a partition no longer has, or does not have yet, becomes its first or its next one; a time, the first
    record of that time or later. Raises GroupInUse, and KafkaException when the broker does not answer or refuses.
    """
    known = client.list_topics(timeout=timeout).topics
    places = [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]
    first = clients.offsets(client, places, OffsetSpec.earliest(), timeout=timeout)  # type: ignore[no-untyped-call]
    end = clients.offsets(client, places, OffsetSpec.latest(), timeout=timeout)  # type: ignore[no-untyped-call]
    wanted = {place: _wanted(start, first[place], end[place]) for place in first}
    if start.time is not None:
        found = clients.offsets(
            client, places, OffsetSpec.for_timestamp(int(start.time.timestamp() * 1000)), timeout=timeout
        )
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
    """Commit as one who is no member: a broker allows that only while the group has none."""
    places = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
    try:
        done = reader.commit(offsets=places, asynchronous=False)
    except KafkaException as exception:
        raise GroupInUse(group) if exception.args[0].code() in IN_USE else exception from exception
    for place in done or ():
        if place.error is not None:
            raise GroupInUse(group) if place.error.code() in IN_USE else KafkaException(place.error)
