"""Reading topics again, with a reader that joins no group and commits nothing, and so does not affect any consumer."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from chassis.kafka import clients
from chassis.kafka.patience import MOVING, MOVING_PAUSE_SECONDS
from chassis.kafka.records import Partition, Record, from_message
from chassis.runtime.failures import DependencyDown

PATIENCE_SECONDS = 15.0
"""A broker that does not respond for this long is down."""
BATCH = 1_000

T = TypeVar("T")


def scan(topics: Iterable[str], since: datetime | None = None) -> Iterator[Record]:
    """Every committed record of these topics from `since` (None: the beginning) up to now, in order per partition.

    Topics that do not exist have none. Raises KafkaException and DependencyDown if the broker does not respond.
    """
    client = clients.reader()
    try:
        places = _starts(client, topics, since)
        if places:
            client.assign(places)
            yield from _read(client, places)
    finally:
        client.close()


def _starts(client: Consumer, topics: Iterable[str], since: datetime | None) -> list[Place]:
    known = client.list_topics(timeout=PATIENCE_SECONDS).topics
    there = [(topic, number) for topic in topics if topic in known for number in known[topic].partitions]
    if since is None or not there:
        return [Place(topic, number, OFFSET_BEGINNING) for topic, number in there]
    moment = int(since.timestamp() * 1000)
    wanted = [Place(*place, moment) for place in there]
    found = settled(lambda: _whole(client.offsets_for_times(wanted, timeout=PATIENCE_SECONDS)))
    return [place for place in found if place.offset >= 0]  # otherwise it has no record since then


def _read(client: Consumer, places: list[Place]) -> Iterator[Record]:
    """Read up to the current end of each partition. It is compared by offset, since a record's timestamp may be arbitrary."""
    open_ = {(place.topic, place.partition): _end(client, place) for place in places}
    heard = time.monotonic()
    while open_:
        messages = clients.available(client, BATCH, 0.5)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > PATIENCE_SECONDS:
            raise DependencyDown(f"the broker did not respond for {PATIENCE_SECONDS:g} s")
        for message in messages:
            error, place = message.error(), (str(message.topic()), int(message.partition() or 0))
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            end, offset = open_.get(place, 0), int(message.offset() or 0)
            if error is None and offset < end:
                yield from_message(message)
            if error is not None or offset + 1 >= end:
                open_.pop(place, None)


def _end(client: Consumer, place: Place) -> int:
    """The offset after the last record of a partition."""

    def ask() -> int:
        _, end = client.get_watermark_offsets(Place(place.topic, place.partition), timeout=PATIENCE_SECONDS)
        return int(end)

    return settled(ask)


def last(
    topics: Iterable[str], wanted: Callable[[bytes], bool], since: datetime | None
) -> dict[tuple[str, bytes], Record]:
    """The last record of each wanted key on each of these topics."""
    return {(one.topic, one.key): one for one in scan(topics, since) if one.key is not None and wanted(one.key)}


def positions(group: str, topic: str) -> dict[int, int]:
    """The progress of a consumer group in a topic: its committed offset for each partition that has one."""
    client = clients.reader(group)
    try:
        known = client.list_topics(timeout=PATIENCE_SECONDS).topics
        numbers = known[topic].partitions if topic in known else []
        return {number: offset for (_, number), offset in committed(client, [(topic, n) for n in numbers]).items()}
    finally:
        client.close()


def committed(client: Consumer, places: Iterable[Partition]) -> dict[Partition, int]:
    """The committed offsets of the client's group, where it has any. Raises KafkaException.

    This uses a consumer, which waits for a coordinator that is moving; librdkafka's admin client does not (2.16.0 crashes with
    a segmentation fault).
    """
    wanted = [Place(*place) for place in places]
    found = settled(lambda: _whole(client.committed(wanted, timeout=PATIENCE_SECONDS)))
    return {(place.topic, place.partition): place.offset for place in found if place.offset >= 0}


def _whole(found: list[Place]) -> list[Place]:
    """Raises the error of a partition as KafkaException: its offset looks like that of a partition that has none."""
    for place in found:
        if place.error is not None:
            raise KafkaException(place.error)
    return found


def settled(ask: Callable[[], T]) -> T:
    """Repeat a request while its error is temporary. Raises KafkaException for other errors, and after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as exception:
            if time.monotonic() > deadline or exception.args[0].code() not in MOVING:
                raise
            time.sleep(MOVING_PAUSE_SECONDS)
