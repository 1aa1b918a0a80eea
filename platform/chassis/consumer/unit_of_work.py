"""A batch as a unit of work: the transaction that processes it, and its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from confluent_kafka import TopicPartition

from chassis.deadletters.record import FailedRecord
from chassis.events.registry import Received
from chassis.kafka.records import Partition, Record

Offsets = Mapping[Partition, int]
Readable = Sequence[tuple[Record, Received[Any]]]
"""Records that could be parsed, each with its event."""
Tagged = Callable[[Offsets], list[TopicPartition]]
"""Prepares offsets for a commit, each with the id of its topic."""


def untagged(offsets: Offsets) -> list[TopicPartition]:
    """Prepare offsets for a commit without the ids of their topics."""
    return [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]


@dataclass(slots=True)
class BatchResult:
    """The result of a committed batch. Each record of the batch is in exactly one of these lists."""

    handled: list[tuple[Record, Received[Any]]] = field(default_factory=list)
    duplicates: list[Record] = field(default_factory=list)
    dead: list[FailedRecord] = field(default_factory=list)


class Withheld(Exception):
    """Too many events of a topic are unreadable, and none can be read, so they are not dead-lettered."""

    def __init__(self, topic: str, error: BaseException) -> None:
        super().__init__(f"{topic}: {error}")
        self.topic = topic
        self.error = error


def _agree(readable: Readable, dead: Sequence[FailedRecord]) -> None:
    """Let every unreadable record be dead-lettered."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a batch is tried."""

    limit: float | None = None
    """Time limit of each handler in seconds, if it is shorter than the handler's own."""
    check: Callable[[Readable, Sequence[FailedRecord]], None] = _agree
    """Called with the readable and the unreadable records before they are processed. May raise Withheld."""


USUAL = Terms()


class Transaction(Protocol):
    """Everything about a batch that is committed together or not at all.

    The two kinds are `DatabaseTransaction` (inbox, state and outbox in PostgreSQL, followed by the offsets) and
    `KafkaTransaction` (records and offsets in Kafka).
    """

    def process(self, batch: Sequence[Record], offsets: Offsets, terms: Terms = USUAL) -> BatchResult:
        """Process a batch. Raises HandlerFailed with a handler's exception, Withheld, and any error of a dependency."""

    def probe(self) -> None:
        """Check whether the dependency accepts work now. Raises any exception if it does not."""

    def dead_letter(self, failed: FailedRecord, offsets: Offsets) -> None:
        """Store one dead letter durably."""

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Commit the offsets of finished records, if `process` has not committed them. `wait`: synchronously."""

    def reset(self, error: BaseException) -> None:
        """Clean up after an attempt that failed with `error`, for example close a broken connection."""

    def raise_if_unsure(self) -> None:
        """Raise Unsure if only a restart can tell how the last transaction ended."""
