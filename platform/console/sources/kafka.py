"""The topics, read by a client that joins no group and commits nothing: committed records only, in bounded portions."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from django.conf import settings

from chassis.kafka import clients, names, raw_headers
from chassis.kafka.records import Record, from_message
from chassis.runtime.failures import DependencyDown
from console.failures import NotFound, Source
from console.sources import walk
from console.sources.walk import Path, Walked

REQUEST_SECONDS = 3.0
"""How long the brokers have for an answer."""
READ_SECONDS = 10.0
"""How long records are read; what was read by then is returned."""
MOST_BYTES = 16_000_000
"""Maximum size of the records of one answer; at least one is returned."""
MOST_RECORDS = 1_000
KEPT = 2
"""Number of clients that are kept for the next request."""
AHEAD = {
    # Pages are read backwards, in portions: what a client fetches beyond a portion is thrown away.
    "queued.min.messages": 2_000,
    "queued.max.messages.kbytes": 2_048,
    "fetch.message.max.bytes": 262_144,
    # The broker answers the requests of a connection in order: the next one waits for the end of a fetch.
    "fetch.wait.max.ms": 10,
    "fetch.queue.backoff.ms": 5,
}
"""How far a client reads ahead, and how long it waits for more."""


@dataclass(frozen=True, slots=True)
class PartitionEnds:
    """A partition: the offset of its first record, and that after its last committed one. Both are -1 if not known now."""

    number: int
    begin: int
    end: int

    @property
    def span(self) -> int:
        """The number of offsets in it, at least that of its records: transactions take offsets too."""
        return max(0, self.end - self.begin)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of this system."""

    name: str
    partitions: tuple[PartitionEnds, ...]

    @property
    def is_dead_letter_topic(self) -> bool:
        """Whether it has the dead letters of another one."""
        return names.is_dead_letter_topic(self.name)

    @property
    def span(self) -> int:
        """The number of offsets in all partitions."""
        return sum(one.span for one in self.partitions)


@dataclass(frozen=True, slots=True)
class Portion:
    """Records of a topic, and whether there are more where they come from."""

    records: tuple[Record, ...]
    is_complete: bool
    """Whether the range was read to its end: False if there was not enough time or room."""


class Topics:
    """Reads topics. Safe to use from several threads. Every method raises Away if Kafka cannot be reached."""

    def __init__(self) -> None:
        self.source = Source("Kafka")
        self._lock = threading.Lock()
        self._idle: list[Consumer] = []

    def names(self) -> list[str]:
        """The names of all topics of this system, sorted."""
        with self._client() as client:
            return sorted(_known(client))

    def topic(self, name: str) -> Topic:
        """A topic with the ends of its partitions. Raises NotFound."""
        with self._client() as client:
            known = _known(client)
            if name not in known:
                raise NotFound(f"There is no topic {name!r}.")
            return Topic(name, tuple(_ends(client, name, number) for number in known[name]))

    def all(self) -> list[Topic]:
        """All topics with the ends of their partitions."""
        with self._client() as client:
            return [
                Topic(name, tuple(_ends(client, name, number) for number in numbers))
                for name, numbers in sorted(_known(client).items())
            ]

    def read(self, topic: str, partition: int, start: int, count: int) -> Portion:
        """The first `count` records of a partition from the offset `start`. Raises NotFound."""
        with self._client() as client:
            ends = self._partition(client, topic, partition)
            return _read(client, topic, {partition: (max(start, ends.begin), ends.end)}, min(count, MOST_RECORDS))

    def record(self, topic: str, partition: int, offset: int) -> Record:
        """One record. Raises NotFound if there is none at this offset: it was deleted, or belongs to a transaction."""
        found = self.read(topic, partition, offset, 1).records
        if not found or found[0].offset != offset:
            raise NotFound(f"{topic}/{partition} has no record at offset {offset}; retention may have deleted it.")
        return found[0]

    def last(self, topic: str, count: int, partition: int | None = None) -> Portion:
        """The last `count` records of a topic, or of one partition, newest first."""
        count = min(count, MOST_RECORDS)
        with self._client() as client:
            known = _known(client)
            if topic not in known or (partition is not None and partition not in known[topic]):
                raise NotFound(f"There is no topic {topic!r}, or no such partition.")
            numbers = known[topic] if partition is None else [partition]
            ends = {number: _ends(client, topic, number) for number in numbers}
            return _last(client, topic, ends, count)

    def at_time(self, topic: str, milliseconds: int) -> dict[int, int]:
        """The offset of the first record of each partition that is not older, in milliseconds since the epoch."""
        with self._client() as client:
            known = _known(client)
            if topic not in known:
                raise NotFound(f"There is no topic {topic!r}.")
            return _at_time(
                client, {number: _ends(client, topic, number) for number in known[topic]}, topic, milliseconds
            )

    def walk(self, topic: str, path: Path, partition: int | None, since: int | None, until: int | None) -> Walked:
        """Look at the records of a topic, or of one partition, along `path`; see walk.py. Raises NotFound.

        `since` (inclusive) and `until` (exclusive) are times in milliseconds since the epoch.
        """
        with self._client() as client:
            known = _known(client)
            if topic not in known or (partition is not None and partition not in known[topic]):
                raise NotFound(f"There is no topic {topic!r}, or no such partition.")
            ends = {n: _ends(client, topic, n) for n in known[topic] if partition is None or n == partition}
            begins = self._begins(client, ends, topic, since)
            stops = self._begins(client, ends, topic, until) if until is not None else {}
            ranges = {n: (begins.get(n, -1), min(one.end, stops.get(n, one.end))) for n, one in ends.items()}
            return walk.walk(path, ranges, lambda wanted, limits: _portion(client, topic, wanted, limits))

    def count(self, topic: str, ranges: dict[int, tuple[int, int]], seconds: float = READ_SECONDS) -> dict[int, int]:
        """The number of records between two offsets of each partition: less than of offsets, since transactions leave gaps.

        Partitions that were not counted within these seconds are left out.
        """
        with self._client() as client:
            limits = walk.Limits(MOST_BYTES, time.monotonic() + seconds)
            records, unfinished = _portion(client, topic, ranges, limits)
        numbers = Counter(record.partition for record in records)
        return {number: numbers[number] for number in ranges if number not in unfinished}

    def close(self) -> None:
        """Close the kept clients."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    def _begins(
        self, client: Consumer, ends: dict[int, PartitionEnds], topic: str, milliseconds: int | None
    ) -> dict[int, int]:
        if milliseconds is None:
            return {number: one.begin for number, one in ends.items()}
        return _at_time(client, ends, topic, milliseconds)

    def _partition(self, client: Consumer, topic: str, partition: int) -> PartitionEnds:
        known = _known(client)
        if partition not in known.get(topic, ()):
            raise NotFound(f"There is no partition {partition} of a topic {topic!r}.")
        return _ends(client, topic, partition)

    @contextmanager
    def _client(self) -> Iterator[Consumer]:
        """A client for one request. One that has failed is not used again. Raises Away."""
        with self._lock:
            client = self._idle.pop() if self._idle else None
        try:
            client = client or clients.reader(f"{settings.KAFKA_PREFIX}console", **AHEAD)
            yield client
            client.unassign()
            client.poll(0)
        except (KafkaException, DependencyDown) as error:
            if client is not None:
                client.close()
            raise self.source.failed(reason(error)) from None
        except NotFound:
            if client is not None:
                self._keep(client)
            raise
        except BaseException:
            if client is not None:
                client.close()
            raise
        self._keep(client)

    def _keep(self, client: Consumer) -> None:
        self.source.answered()
        with self._lock:
            if len(self._idle) < KEPT:
                self._idle.append(client)
                return
        client.close()


def reason(error: Exception) -> str:
    """An error of the client in words."""
    if isinstance(error, KafkaException) and isinstance(error.args[0], KafkaError):
        return str(error.args[0].str())
    return str(error)


def _known(client: Consumer) -> dict[str, list[int]]:
    found = client.list_topics(timeout=REQUEST_SECONDS).topics
    return {
        name: sorted(topic.partitions)
        for name, topic in found.items()
        if name.startswith(settings.KAFKA_PREFIX) and names.is_legal(name)
    }


def _ends(client: Consumer, topic: str, number: int) -> PartitionEnds:
    try:
        begin, end = client.get_watermark_offsets(TopicPartition(topic, number), timeout=REQUEST_SECONDS)
    except KafkaException as error:
        if error.args[0].code() == KafkaError._TRANSPORT:
            raise
        return PartitionEnds(number, -1, -1)  # its leader is moving
    return PartitionEnds(number, int(begin), int(end))


def _at_time(client: Consumer, ends: dict[int, PartitionEnds], topic: str, milliseconds: int) -> dict[int, int]:
    asked = [TopicPartition(topic, number, milliseconds) for number in ends]
    found = client.offsets_for_times(asked, timeout=REQUEST_SECONDS)
    # Without a younger record the answer is the end, as -1.
    return {one.partition: one.offset if one.offset >= 0 else ends[one.partition].end for one in found}


def _last(client: Consumer, topic: str, ends: dict[int, PartitionEnds], count: int) -> Portion:
    """Read the end of each partition, and more of it while transactions have left fewer records than wanted."""
    width = count + 8
    while True:
        ranges = {number: (max(one.begin, one.end - width), one.end) for number, one in ends.items() if one.span}
        found = _read(client, topic, ranges, MOST_RECORDS * max(1, len(ranges)))
        newest = sorted(found.records, key=lambda record: (-record.timestamp_ms, record.partition, -record.offset))
        is_whole = all(begin == ends[number].begin for number, (begin, _) in ranges.items())
        if len(newest) >= count or is_whole or not found.is_complete:
            return Portion(tuple(newest[:count]), found.is_complete)
        width *= 8


def _read(client: Consumer, topic: str, ranges: dict[int, tuple[int, int]], count: int) -> Portion:
    """The records between two offsets of each partition, at most `count` in all."""
    limits = walk.Limits(MOST_BYTES, time.monotonic() + READ_SECONDS, count)
    records, unfinished = _portion(client, topic, ranges, limits)
    if unfinished and not records:
        raise DependencyDown(f"no record arrived within {READ_SECONDS:g} s")
    return Portion(tuple(records), not unfinished or len(records) >= count)


def _portion(
    client: Consumer, topic: str, ranges: dict[int, tuple[int, int]], limits: walk.Limits
) -> tuple[list[Record], set[int]]:
    """The records between two offsets of each partition, in order per partition; and the partitions not read to their end."""
    open_ = {number: end for number, (begin, end) in ranges.items() if 0 <= begin < end}
    if not open_:
        return [], set()
    client.assign([TopicPartition(topic, number, ranges[number][0]) for number in open_])
    found: list[Record] = []
    size = 0
    while open_ and len(found) < limits.records and size < limits.size and time.monotonic() < limits.deadline:
        ended: set[int] = set()
        for message in clients.available(client, min(limits.records - len(found), 500), 0.1):
            error, number = message.error(), int(message.partition() or 0)
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if message.topic() != topic or number in ended or number not in open_:
                continue
            offset = int(message.offset() or 0)
            if error is None and offset < open_[number]:
                record = from_message(message)
                size += record.size
                found.append(record)
            if error is not None or offset + 1 >= open_[number]:
                ended.add(number)
        if ended:
            # What the client has fetched beyond the range is dropped: there may be tens of thousands of records in a batch.
            client.incremental_unassign([TopicPartition(topic, number) for number in ended])
            open_ = {number: end for number, end in open_.items() if number not in ended}
    raw_headers.complete(found)
    return found, set(open_)
