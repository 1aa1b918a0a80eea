"""What became of a batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from confluent_kafka import TopicPartition

from chassis.messaging.deadletters import DeadLetter
from chassis.messaging.records import Partition, Record
from chassis.messaging.registry import Received

Offsets = Mapping[Partition, int]
Tagged = Callable[[Offsets], list[TopicPartition]]
"""Makes offsets ready to be committed, each with the id of its topic."""


def untagged(offsets: Offsets) -> list[TopicPartition]:
    """Offsets to commit, without a word about which topic of its name they are of."""
    return [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]


@dataclass(slots=True)
class Outcome:
    """Each record of a batch stands in exactly one of these lists, once the transaction is committed."""

    handled: list[tuple[Record, Received[Any]]] = field(default_factory=list)
    repeated: list[Record] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)


class Transaction(Protocol):
    """Everything about a batch that must happen together or not at all.

    The two kinds are `DatabaseTransaction` (inbox, state and outbox in PostgreSQL; offsets after it) and
    `KafkaTransaction` (records and offsets in Kafka).
    """

    def process(self, batch: Sequence[Record], offsets: Offsets) -> Outcome:
        """Handle a batch. What it raises says whether a dependency is down (`failures.is_dependency`) or an event is bad."""

    def bury(self, letter: DeadLetter, offsets: Offsets) -> None:
        """Put one dead letter where it is safe."""

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Commit offsets of work that is done, if `process` has not done so itself."""

    def reset(self, error: Exception) -> None:
        """Let go of what a try that failed with `error` has left, a broken connection say."""

    def raise_if_unsure(self) -> None:
        """Raise Unsure when only a new start can tell how the last transaction ended."""
