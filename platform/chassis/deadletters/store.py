"""Reading dead letters and their resolutions from the dead-letter topics.

A `Resolution` is a record in the partition of its dead letter, after it. Kafka's retention deletes the oldest records first,
so no dead letter outlives its resolution.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from chassis.deadletters import cause
from chassis.deadletters.record import PREFIX
from chassis.events.registry import handlers as registered
from chassis.kafka import clients, names, partition_offsets, raw_headers
from chassis.kafka.patience import Patience
from chassis.kafka.records import Headers, Partition, Record, from_message
from chassis.observability import correlation, privacy
from chassis.runtime.failures import DependencyDown

RESOLVES = PREFIX + "resolves"

REASONS = ("unreadable", "timeout", "crash", "handler")

Action = Literal["redriven", "discarded"]

MOMENT_SECONDS = 0.5
"""How long a reader without `settled` waits for open transactions."""

Span = Mapping[Partition, tuple[int, int]]
"""A range per partition: the first offset, and the one after the last."""


class NoTopic(Exception):
    """A dead-letter topic does not exist: `manage.py topics` creates it."""


def sources() -> dict[str, str]:
    """The topics that the running service consumes, by the names of their dead-letter topics."""
    return {names.dead_letter_topic(topic): topic for topic in registered()}


@dataclass(frozen=True, slots=True)
class Resolution:
    """Whether a dead letter was redriven or discarded, by whom, when and, if stated, why."""

    letter_id: str
    action: str
    by: str
    at: str
    why: str = ""
    edited: bool = False
    """Whether it was redriven with another payload."""

    def value(self) -> bytes:
        """The value of its record."""
        more = {name: value for name, value in (("why", self.why), ("edited", self.edited)) if value}
        return orjson.dumps({"id": self.letter_id, "action": self.action, "by": self.by, "at": self.at, **more})

    @classmethod
    def of(cls, record: Record) -> "Resolution | None":
        """Parse a record as a resolution; None if it is a dead letter."""
        letter_id = record.header(RESOLVES)
        if letter_id is None:
            return None
        try:
            content: Any = orjson.loads(record.value or b"")
            action, by, at = content["action"], content["by"], content["at"]
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            action = by = at = None
        if not all(isinstance(one, str) for one in (action, by, at)):  # a foreign record
            return cls(letter_id, "resolved", "unknown", "")
        why = content.get("why", "")
        return cls(letter_id, action, by, at, why if isinstance(why, str) else "", content.get("edited") is True)


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as read from its topic."""

    record: Record
    topic: str
    """The original topic, to which it is redriven."""

    def header(self, name: str) -> str:
        """A header that dead-lettering added, without its prefix; empty if there is none."""
        return self.record.header(PREFIX + name) or ""

    @property
    def id(self) -> str:
        """The id of the dead letter; for a foreign record, its position."""
        own = self.header("id")
        return own if correlation.sane(own) else f"{self.record.topic}:{self.record.partition}:{self.record.offset}"

    @property
    def key(self) -> str | None:
        """The key as text; in hexadecimal, after `0x`, if it is not UTF-8."""
        key = self.record.key
        if key is None:
            return None
        try:
            return key.decode()
        except UnicodeDecodeError:
            return f"0x{key.hex()}"

    @property
    def at(self) -> str:
        """When it was dead-lettered, in RFC 3339."""
        return self.header("at")

    @property
    def died_at(self) -> datetime | None:
        """When it was dead-lettered, with a time zone; None if the header has no such time."""
        try:
            time = datetime.fromisoformat(self.at)
        except ValueError:
            return None
        return time if time.tzinfo else None

    @property
    def error(self) -> str:
        """The error, without secrets."""
        return privacy.scrub(self.header("error"))

    @property
    def traceback(self) -> str:
        """The traceback, without values and secrets."""
        return privacy.scrub(self.header("traceback"))

    @property
    def cause(self) -> cause.Cause:
        """Why and where the event failed."""
        group = self.header("group")
        return cause.Cause(
            topic=self.topic,
            consumer_group=group[:300],
            reason=self.header("reason")[:100],
            error_type=cause.error_type(self.header("error")),
            place=cause.place(self.header("traceback"), names.service(group)),
        )

    @property
    def trace_id(self) -> str:
        """The id of the event's trace; empty if it has none."""
        if trace_id := self.record.header("traceId"):
            return trace_id
        parts = (self.record.header("traceparent") or "").split("-")
        return parts[1] if len(parts) == 4 else ""

    def original_headers(self) -> Headers:
        """The headers of the original event."""
        return [(name, value) for name, value in self.record.headers if not name.startswith(PREFIX)]

    def summary(self) -> dict[str, Any]:
        """Everything except payload, headers and traceback."""
        return {
            "id": self.id,
            "at": self.at,
            "reason": self.header("reason"),
            "cause": self.cause.id,
            "error": self.error,
            "topic": self.topic,
            "partition": self.header("partition"),
            "offset": self.header("offset"),
            "key": self.key,
            "attempts": self.header("attempts"),
            "event_id": self.record.header("ce_id"),
            "request_id": self.record.header("requestId"),
            "trace_id": self.trace_id,
            "redriven_before": self.header("redriven-from") or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter: dead letters that match all of its fields."""

    ids: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    causes: frozenset[str] = frozenset()
    """Ids of groups, which have a common cause."""
    since: datetime | None = None
    until: datetime | None = None
    ends: Mapping[Partition, int] | None = None
    """Only those before these offsets of the dead-letter topics; none of a partition that is not named."""

    @property
    def everything(self) -> bool:
        """Whether the filter is empty."""
        return self == Wanted()

    def fits(self, letter: StoredDeadLetter) -> bool:
        """Whether a dead letter matches. One without a time matches no time filter."""
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.topics or letter.topic in self.topics)
            and (not self.keys or letter.key in self.keys)
            and (not self.reasons or letter.header("reason") in self.reasons)
            and (not self.causes or letter.cause.id in self.causes)
            and self._fits_time(letter.died_at)
            and self._fits_place(letter.record)
        )

    def _fits_place(self, record: Record) -> bool:
        return self.ends is None or record.offset < self.ends.get((record.topic, record.partition), 0)

    def _fits_time(self, died_at: datetime | None) -> bool:
        if self.since is None and self.until is None:
            return True
        if died_at is None:
            return False
        return (self.since is None or died_at >= self.since) and (self.until is None or died_at < self.until)


class Store:
    """The dead-letter topics of the running service, up to their ends at the time of creation.

    `settled`: wait for open transactions and include their records. Without it, a resolution that was just written may be
    missing, after the open transaction of another writer: sufficient for display, but not for redriving or discarding.
    `newest`: read only this many last records of each partition. Raises DependencyDown and NoTopic, as do its methods.
    """

    def __init__(self, patience: Patience, *, settled: bool = False, newest: int | None = None) -> None:
        self._patience = patience
        self._topics = sources()
        self._span = span(self._topics, patience, settled=settled, newest=newest)
        self.partly = newest is not None and any(end - start >= newest for start, end in self._span.values())
        """Whether `newest` excluded older records."""
        self.ends = {place: end for place, (_, end) in self._span.items()}
        """The offset after the last record, of each partition."""

    def resolutions(self) -> dict[str, Resolution]:
        """The resolutions, by the id of their dead letters."""
        found = (Resolution.of(record) for record in read(self._span, self._patience))
        return {resolution.letter_id: resolution for resolution in found if resolution}

    def letters(self, wanted: Wanted, without: Iterable[str]) -> Iterator[StoredDeadLetter]:
        """The wanted dead letters except those in `without`, each once, in order per key."""
        seen = set(without)
        for record in read(self._span, self._patience):
            letter = StoredDeadLetter(record, self._topics[record.topic])
            if Resolution.of(record) or letter.id in seen or not wanted.fits(letter):
                continue
            seen.add(letter.id)
            yield letter

    def unresolved(self, wanted: Wanted) -> Iterator[StoredDeadLetter]:
        """The wanted dead letters without a resolution."""
        return self.letters(wanted, self.resolutions())


def span(names: Iterable[str], patience: Patience, *, settled: bool, newest: int | None) -> Span:
    """The current range of offsets of each partition of these topics."""
    client = clients.admin()
    try:
        places = _places(client, names, patience)
        first = _offsets(client, places, clients.EARLIEST, patience)
        last = _ends(client, places, patience, settled=settled)
    except KafkaException as error:
        raise DependencyDown(f"Kafka rejected the request: {error}") from error
    if newest is not None:
        first = {place: max(start, last[place] - newest) for place, start in first.items()}
    return {place: (start, last[place]) for place, start in first.items()}


def _places(client: AdminClient, names: Iterable[str], patience: Patience) -> list[TopicPartition]:
    known = patience.insist(lambda seconds: client.list_topics(timeout=seconds)).topics
    missing = sorted(name for name in names if name not in known)
    if missing:
        raise NoTopic(f"{', '.join(missing)}: missing; `manage.py topics` creates them")
    return [TopicPartition(name, number) for name in names for number in known[name].partitions]


def _ends(
    client: AdminClient, places: list[TopicPartition], patience: Patience, *, settled: bool
) -> dict[Partition, int]:
    """The ends of the partitions; without `settled`, as visible to readers of committed records.

    A committed transaction becomes visible with a short delay, for which this waits, so that a user does not see a dead letter
    again after resolving it.
    """

    def ends(level: IsolationLevel) -> dict[Partition, int]:
        return _offsets(client, places, clients.LATEST, patience, isolation=level)

    written = ends(IsolationLevel.READ_UNCOMMITTED)
    if settled:
        return written
    deadline = time.monotonic() + MOMENT_SECONDS
    while True:
        committed = ends(IsolationLevel.READ_COMMITTED)
        if all(end >= written[place] for place, end in committed.items()) or time.monotonic() > deadline:
            return committed
        time.sleep(0.02)


def _offsets(
    client: AdminClient, places: list[TopicPartition], spec: OffsetSpec, patience: Patience, **more: Any
) -> dict[Partition, int]:
    return patience.insist(lambda seconds: partition_offsets.read(client, places, spec, timeout=seconds, **more))


def read(wanted: Span, patience: Patience) -> Iterator[Record]:
    """The committed records in these ranges, in order per partition."""
    unfinished = {place: end for place, (start, end) in wanted.items() if start < end}
    if not unfinished:
        return
    client = clients.reader()
    try:
        client.assign([TopicPartition(*place, wanted[place][0]) for place in unfinished])
        while unfinished:
            found: list[Record] = []
            for message in clients.available(client, 500, min(0.2, patience.left())):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise DependencyDown(f"Kafka refuses: {error.str()}")
                place, offset = (message.topic(), message.partition()), message.offset()
                end = unfinished.get(place, 0)  # type: ignore[arg-type]
                if error is None and offset < end:  # type: ignore[operator]
                    found.append(from_message(message))
                if offset + (error is None) >= end:  # type: ignore[operator]
                    unfinished.pop(place, None)  # type: ignore[arg-type]
                patience.heard()
            raw_headers.complete(found)  # a foreign record may have header names that are not UTF-8
            yield from found
    finally:
        client.close()
