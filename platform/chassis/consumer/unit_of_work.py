"""What became of a batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from confluent_kafka import TopicPartition

from chassis.deadletters.record import FailedRecord
from chassis.events.registry import Received
from chassis.kafka.records import Partition, Record

Offsets = Mapping[Partition, int]
Readable = Sequence[tuple[Record, Received[Any]]]
"""Records that could be read, each with its event."""
Tagged = Callable[[Offsets], list[TopicPartition]]
"""Makes offsets ready to be committed, each with the id of its topic."""


def untagged(offsets: Offsets) -> list[TopicPartition]:
    """Offsets to commit, without a word about which topic of its name they are of."""
    return [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]


@dataclass(slots=True)
class BatchResult:
    """Each record of a batch stands in exactly one of these lists, once the transaction is committed."""

    handled: list[tuple[Record, Received[Any]]] = field(default_factory=list)
    repeated: list[Record] = field(default_factory=list)
    dead: list[FailedRecord] = field(default_factory=list)


class Withheld(Exception):
    """So many events of a topic cannot be read, and none can, that they are not dead-lettered."""

    def __init__(self, topic: str, error: BaseException) -> None:
        super().__init__(f"{topic}: {error}")
        self.topic = topic
        self.error = error


def _agree(readable: Readable, dead: Sequence[FailedRecord]) -> None:
    """Whatever cannot be read is dead-lettered."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a batch is tried."""

    limit: float | None = None
    """Seconds that a handler may run, where that is less than its own limit."""
    check: Callable[[Readable, Sequence[FailedRecord]], None] = _agree
    """Is shown what could be read and what could not, before anything is done with it. May raise Withheld."""


USUAL = Terms()


class Transaction(Protocol):
    """Everything about a batch that must happen together or not at all.

    The two kinds are `DatabaseTransaction` (inbox, state and outbox in PostgreSQL; offsets after it) and
    `KafkaTransaction` (records and offsets in Kafka).
    """

    def process(self, batch: Sequence[Record], offsets: Offsets, terms: Terms = USUAL) -> BatchResult:
        """Handle a batch. Raises HandlerFailed, with what a handler raised; Withheld; and whatever else came in the way."""

    def probe(self) -> None:
        """Ask the dependency whether it would take work now; raises whatever says that it would not."""

    def dead_letter(self, failed: FailedRecord, offsets: Offsets) -> None:
        """Put one dead letter where it is safe."""

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Commit offsets of work that is done, if `process` has not done so itself."""

    def reset(self, error: BaseException) -> None:
        """Let go of what a try that failed with `error` has left, a broken connection say."""

    def raise_if_unsure(self) -> None:
        """Raise Unsure when only a new start can tell how the last transaction ended."""
