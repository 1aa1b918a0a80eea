"""What the service's topics contain about a story, and how far its consumers are.

The topics are those that the service publishes and consumes, and its dead-letter topics: it may read no others. Reading is
bounded: only the partitions of the keys, from the time of the first fact on, committed records only, and without a group.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from django.conf import settings

from chassis.deadletters import store
from chassis.deadletters.record import REDRIVEN_FOR
from chassis.events import registry
from chassis.kafka import clients, names, partition_offsets, topic_reader
from chassis.kafka.patience import Patience
from chassis.kafka.records import Partition, Record
from chassis.story import database
from chassis.story.facts import Question, TopicRecord
from chassis.story.partitions import partition_of

MOST_RECORDS = 20_000
"""Maximum number of records that are read of each partition."""

MOST = 500
"""Maximum number of records in a story."""

REQUEST_SECONDS, SILENCE_SECONDS, READ_SECONDS = 5.0, 10.0, 40.0


@dataclass(frozen=True)
class Found:
    """The records, the committed offsets of the service's group, its members, missing topics, and what was not searched."""

    records: tuple[TopicRecord, ...]
    committed: dict[str, dict[int, int]]
    members: int | None
    missing: tuple[str, ...]
    limits: tuple[str, ...]


def find(question: Question, written: Collection[str] = ()) -> Found:
    """Search the service's topics; of those that its outbox has `written` to, only whether they exist.

    Raises KafkaException and DependencyDown if the broker does not respond.
    """
    client = clients.admin()
    consumed = list(registry.handlers())
    wanted = [*map(names.topic, registry.published()), *consumed, *map(names.dead_letter_topic, consumed)]
    known = client.list_topics(timeout=REQUEST_SECONDS).topics
    counts = {topic: len(known[topic].partitions) for topic in wanted if topic in known}
    committed = _committed([(topic, number) for topic in consumed for number in range(counts.get(topic, 0))])
    span, limits = _span(client, counts, question, committed)
    records = tuple(_fact(one) for one in _matching(span, question))[:MOST]
    return Found(
        records=records,
        committed=_by_topic(committed),
        members=_members(client) if consumed else None,
        missing=tuple(sorted({*map(_logical, wanted), *written} - set(map(_logical, known)))),
        limits=limits,
    )


def _logical(topic: str) -> str:
    return topic.removeprefix(settings.KAFKA_PREFIX)


def _committed(places: list[Partition]) -> dict[Partition, int]:
    if not places:
        return {}
    client = clients.reader()
    try:
        return topic_reader.committed(client, places)
    finally:
        client.close()


def _by_topic(committed: dict[Partition, int]) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for (topic, number), offset in committed.items():
        found.setdefault(_logical(topic), {})[number] = offset
    return found


def _members(client: AdminClient) -> int | None:
    groups = client.list_groups(names.group(), timeout=REQUEST_SECONDS)
    return next((len(group.members) for group in groups if group.id == names.group()), 0)


def _span(
    client: AdminClient, counts: dict[str, int], question: Question, committed: dict[Partition, int]
) -> tuple[store.Span, tuple[str, ...]]:
    """The offsets to read of each partition."""
    places = [TopicPartition(topic, number) for topic, count in counts.items() for number in _numbers(count, question)]
    first = partition_offsets.read(client, places, clients.EARLIEST, timeout=REQUEST_SECONDS)
    last = partition_offsets.read(client, places, clients.LATEST, timeout=REQUEST_SECONDS)
    begin = {place: max(first[place], end - MOST_RECORDS) for place, end in last.items()}
    if question.since is not None:
        since = OffsetSpec.for_timestamp(int(question.since.timestamp() * 1000))
        found = partition_offsets.read(client, places, since, timeout=REQUEST_SECONDS)
        begin = {place: offset if offset >= 0 else last[place] for place, offset in found.items()}
        for place, offset in committed.items():
            # An event that its key waits for may be older than the story.
            if place in begin and first[place] <= offset < begin[place] <= offset + MOST_RECORDS:
                begin[place] = offset
    span = {place: (start, min(last[place], start + MOST_RECORDS)) for place, start in begin.items()}
    cut = [place for place, (_, end) in span.items() if end < last[place]]
    if question.since is None:
        cut = [place for place, start in begin.items() if start > first[place]]
    what = "the newest" if question.since is None else "the first"
    return span, tuple(f"of {_logical(topic)}/{n}, only {what} {MOST_RECORDS} records were read" for topic, n in cut)


def _numbers(count: int, question: Question) -> Iterable[int]:
    """The partitions to read: those of the keys, or all while no key is known."""
    if not question.keys:
        return range(count)
    return sorted({partition_of(key.encode(), count) for key in question.all_keys})


def _matching(span: store.Span, question: Question) -> Iterable[Record]:
    keys = {key.encode() for key in question.all_keys}
    letters: set[str | None] = set()
    for record in store.read(span, Patience(SILENCE_SECONDS, READ_SECONDS)):
        if (resolves := record.header(store.RESOLVES)) is not None:
            if resolves in letters:
                yield record
        elif (
            record.key in keys
            or record.header("ce_id") in question.all_event_ids
            or record.header("requestId") in question.all_request_ids
            or record.log_ids()["trace_id"] in question.ids
        ):
            letters.add(record.header("deadletter-id"))
            yield record


def _fact(record: Record) -> TopicRecord:
    resolution = store.Resolution.of(record)
    header = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    is_letter = names.is_dead_letter_topic(record.topic) and resolution is None
    return TopicRecord(
        topic=_logical(record.topic),
        partition=record.partition,
        offset=record.offset,
        at=database.moment(record.timestamp_ms / 1000),
        key=None if record.key is None else record.key[:200].decode("utf-8", "replace"),
        event_id=(record.header("ce_id") or "")[:200],
        request_id=record.log_ids()["request_id"],
        trace_id=record.log_ids()["trace_id"],
        source=(record.header("ce_source") or "").strip("/")[:100],
        redriven_for=(record.header(REDRIVEN_FOR) or "").removeprefix(settings.KAFKA_PREFIX),
        letter=database.letter(header) if is_letter else None,
        resolves=resolution.letter_id if resolution else "",
        resolution=f"{resolution.action} by {resolution.by} at {resolution.at}" if resolution else "",
    )
