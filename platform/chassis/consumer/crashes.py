"""Records that crash the process that handles them are identified, and dead-lettered.

A handler that crashes in C code, or exhausts the memory, leaves no exception and no count of attempts. The count is therefore
kept in Kafka, in the metadata of the group's committed offsets; it needs no database and outlives the machine:

- Before the first batch of a partition after its assignment, the group's offset is committed again with the number of starts
  made at this offset. Any progress, and a clean exit, commits without that number.
- After CAREFUL_AFTER starts without progress, the partition is processed *carefully*: one record at a time, after a commit
  that names its offset as the one being tried. When the attempt ends, successful or not, another commit removes it.
- A record that was being tried during TRIES crashes is dead-lettered.

See docs/adr/0031-records-that-crash.md.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from chassis.consumer import topic_ids
from chassis.consumer.backlog import Backlog
from chassis.kafka import offset_metadata
from chassis.kafka.records import Partition, Record
from chassis.runtime.failures import DependencyDown

log = structlog.get_logger(__name__)

CAREFUL_AFTER = 2
TRIES = 3

WINDOW = 1_000
"""The number of offsets that are processed carefully; more if there are suspects beyond them. It doubles with each further
start without progress, since records behind one that is being retried do not advance the group's offset."""

MOST_SUSPECTS = 50
"""Maximum number of suspects in the metadata, of which Kafka keeps 4,096 bytes."""

ASK_SECONDS = 2.0

_noted: dict[Partition, tuple[int, str | None]] = {}
"""What this process last committed in each partition. A process that finds its own metadata did not crash: it was fenced, or
lost the partition."""

Verdict = Literal["handle", "put back", "dead-letter"]


@dataclass(slots=True)
class Memory:
    """What the metadata of a committed offset contains."""

    starts: int = 0
    """The number of earlier starts at this offset that made no progress."""
    suspects: dict[int, int] = field(default_factory=dict)
    """Offsets, and during how many crashes each was being tried."""

    @classmethod
    def of(cls, metadata: str | None) -> "Memory":
        """Read the metadata that a predecessor committed; the offset that it was trying becomes a suspect, or more suspect.

        Metadata of another format is ignored.
        """
        values = offset_metadata.load(metadata)
        try:
            memory = cls(int(values.get("starts", 0)), {int(o): int(n) for o, n in values.get("suspects", {}).items()})
            if (trying := values.get("trying")) is not None:
                memory.suspects[int(trying)] = memory.suspects.get(int(trying), 0) + 1
        except (ValueError, TypeError, AttributeError):
            return cls()
        return memory

    @classmethod
    def own(cls, metadata: str | None) -> "Memory":
        """Read the metadata that this same process committed as an earlier member of the group, which was not a crash."""
        memory = cls.of(metadata)
        kept = offset_metadata.load(metadata).get("suspects", {})
        suspects = {int(offset): number for offset, number in kept.items()}
        return cls(max(0, memory.starts - 1), suspects)

    def forget(self, before: int) -> None:
        """Forget suspects before this offset, which are finished."""
        self.suspects = {offset: number for offset, number in self.suspects.items() if offset >= before}

    def to_metadata(self, starts: int, trying: int | None = None) -> dict[str, Any]:
        """The metadata for a successor; empty if there is nothing to record."""
        metadata: dict[str, Any] = {}
        if starts:
            metadata["starts"] = starts
        if self.suspects:
            metadata["suspects"] = {str(offset): n for offset, n in sorted(self.suspects.items())[:MOST_SUSPECTS]}
        if trying is not None:
            metadata["trying"] = trying
        return metadata


@dataclass(slots=True)
class _Watched:
    """A partition that this process owns."""

    start: int
    """The group's committed offset when the partition was assigned; -1 if it had none."""
    memory: Memory
    counted: bool = False
    """Whether this start has been counted."""

    @property
    def careful_below(self) -> int:
        """The offset before which records are tried one at a time; 0 if care is not needed."""
        suspected = max(self.memory.suspects, default=-1) + 1
        if self.memory.starts < CAREFUL_AFTER:
            return suspected
        window = max(self.start, 0) + (WINDOW << min(self.memory.starts - CAREFUL_AFTER, 10))
        return max(suspected, window)


class CrashGuard:
    """Counts the starts of a consumer and decides how each batch is tried: call `begin` before a batch, `end` after it."""

    def __init__(self, client: Consumer, backlog: Backlog, topic_id: Callable[[str], str] = lambda topic: "") -> None:
        """`topic_id` returns the id of a topic, which is committed with each offset."""
        self._client = client
        self._topic_id = topic_id
        self._backlog = backlog
        self._watched: dict[Partition, _Watched] = {}
        self._careful: dict[Partition, int] = {}
        """`careful_below` of the partitions in which it is not 0: almost always empty, so that the usual path costs nothing."""
        self._trying: Record | None = None
        self._is_crashing = False

    def assigned(self, committed: Iterable[TopicPartition]) -> None:
        """Start watching newly assigned partitions, with the offsets that the group has committed in them."""
        for found in committed:
            if found.error is None:
                is_own = _noted.get((found.topic, found.partition)) == (found.offset, found.metadata)
                memory = (Memory.own if is_own else Memory.of)(found.metadata)
                memory.forget(found.offset)
                self._watched[found.topic, found.partition] = watched = _Watched(found.offset, memory)
                self._update_careful(found.topic, found.partition)
                if watched.careful_below:
                    log.warning(
                        "an earlier process crashed here: trying one event at a time",
                        topic=found.topic, partition=found.partition, offset=found.offset, starts=memory.starts,
                    )  # fmt: skip

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Stop watching partitions that another consumer owns now."""
        for partition in partitions:
            self._watched.pop(partition, None)
            self._careful.pop(partition, None)

    def _update_careful(self, topic: str, partition: int) -> None:
        """Update whether care is needed in a partition."""
        place = (topic, partition)
        if below := self._watched[place].careful_below:
            self._careful[place] = below
        else:
            self._careful.pop(place, None)

    def received(self, record: Record) -> None:
        """Mark a received record to be tried alone, if care is needed in its partition."""
        if self._careful and record.offset < self._careful.get(record.source, 0):
            record.split = 1

    def begin(self, batch: Sequence[Record]) -> Verdict:
        """Decide what to do with a batch and, if care is needed, commit that it is being tried.

        Raises DependencyDown if Kafka does not accept that commit.
        """
        try:
            places = {(record.topic, record.partition) for record in batch}
            self._learn(places)
            new = [place for place in places if not self._watched[place].counted]
            if new:
                self._count_start(new, batch)
            return self._judge(batch)
        except KafkaException as exception:
            raise DependencyDown(exception.args[0].str()) from exception

    def _learn(self, places: set[Partition]) -> None:
        """Request the committed offsets that the coordinator did not return on assignment."""
        unknown = places - self._watched.keys()
        if not unknown:
            return
        self.assigned(self._client.committed([TopicPartition(*place) for place in unknown], timeout=ASK_SECONDS))
        if missing := unknown - self._watched.keys():
            raise DependencyDown(f"the committed offset of {sorted(missing)} is not known")

    def _count_start(self, places: Iterable[Partition], batch: Sequence[Record]) -> None:
        for place in places:
            if self._watched[place].start < 0:
                self._watched[place].start = min(record.offset for record in batch if record.source == place)
        try:
            self._commit([self._position(place, self._metadata(place)) for place in places])
        except KafkaException as error:
            # For example during a rebalance. Processing does not wait for it; the next batch counts the start.
            log.debug("could not record the start", reason=str(error))
        else:
            for place in places:
                self._watched[place].counted = True

    def _judge(self, batch: Sequence[Record]) -> Verdict:
        if not self._careful:
            return "handle"
        careful = [record for record in batch if record.offset < self._careful.get(record.source, 0)]
        if not careful:
            return "handle"
        if len(batch) > 1:
            for record in careful:
                record.split = 1
            return "put back"
        [record] = batch
        if self.crash_count(record) >= TRIES:
            return "dead-letter"
        self._commit([self._position(record.source, self._metadata(record.source, record.offset))])
        self._trying = record
        return "handle"

    def end(self) -> None:
        """Commit, if care is needed, that the batch is no longer being tried."""
        record, self._trying = self._trying, None
        if record is None or (watched := self._watched.get(record.source)) is None:
            return
        watched.memory.suspects.pop(record.offset, None)
        metadata = self._metadata(record.source)
        self._update_careful(*record.source)
        try:
            self._commit([self._position(record.source, metadata)])
        except KafkaException as error:
            log.warning("could not record that an event was tried", reason=str(error), **record.log_fields())

    def crash_count(self, record: Record) -> int:
        """During how many crashes a record was being tried."""
        return self._watched[record.source].memory.suspects.get(record.offset, 0)

    def mark_as_crash(self) -> None:
        """Note that an exception ends the process: the metadata is kept, as after a crash."""
        self._is_crashing = True

    def leave(self, partitions: Iterable[Partition]) -> None:
        """Commit that this start did not end in a crash: the process exits cleanly, or the partitions are revoked."""
        if self._is_crashing:
            return
        positions = [
            self._position(place, watched.memory.to_metadata(watched.memory.starts))
            for place in partitions
            if (watched := self._watched.get(place))
            and watched.counted
            and self._committed_offset(place) == watched.start
        ]
        try:
            self._commit(positions)
        except KafkaException as error:
            log.debug("could not reset the number of starts", reason=str(error))

    def _metadata(self, place: Partition, trying: int | None = None) -> dict[str, Any]:
        """The metadata to commit for a partition: progress resets the starts, but not the suspects."""
        watched = self._watched[place]
        watched.memory.forget(self._committed_offset(place))
        starts = watched.memory.starts + 1 if self._committed_offset(place) == watched.start else 0
        return watched.memory.to_metadata(starts, trying)

    def _committed_offset(self, place: Partition) -> int:
        """The offset that the group has committed, or may have committed."""
        done = self._backlog.done(place)
        return self._watched[place].start if done is None else max(done, self._watched[place].start)

    def _position(self, place: Partition, metadata: dict[str, Any]) -> TopicPartition:
        topic, partition = place
        if known := self._topic_id(topic):
            metadata = metadata | {topic_ids.ID: known}
        return TopicPartition(topic, partition, self._committed_offset(place), offset_metadata.dump(metadata))

    def _commit(self, positions: list[TopicPartition]) -> None:
        """Commit synchronously. Raises KafkaException, also if only one of the partitions fails."""
        if not positions:
            return
        for done in self._client.commit(offsets=positions, asynchronous=False) or ():
            if done.error is not None:
                raise KafkaException(done.error)
        _noted.update(
            {(position.topic, position.partition): (position.offset, position.metadata) for position in positions}
        )
        self._backlog.committed({(position.topic, position.partition): position.offset for position in positions})
