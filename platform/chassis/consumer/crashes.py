"""Records that end the process that handles them: found by where it was when it ended, and dead-lettered.

A handler that calls into C and crashes, or takes all memory, leaves no exception and no count of tries. So the count
stands in Kafka, in the metadata of the group's committed offsets, and needs no database and outlives the machine:

- With the first work in a partition after it was assigned, the place where the group stands is committed again with the
  number of starts made there. Any progress, and a clean end, commits without it.
- After CAREFUL_AFTER starts without progress the partition is worked *carefully*: one record at a time, and before each
  its offset is committed as the one that is being tried. A try that ends, however it ends, takes that back.
- A record that was being tried at TRIES unclean ends is the culprit.

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
"""So many offsets are worked carefully, and as far as there are suspects. With each further start without progress it is
twice as many: records behind one that is retried do not move the group's place."""

MOST_SUSPECTS = 50
"""Kafka keeps 4,096 bytes of metadata."""

ASK_SECONDS = 2.0

_noted: dict[Partition, tuple[int, str | None]] = {}
"""The last note of this process in each partition. Who finds his own note lives: he was fenced off, or lost the partition."""

Verdict = Literal["handle", "put back", "dead-letter"]


@dataclass(slots=True)
class Memory:
    """What the metadata of a committed offset says."""

    starts: int = 0
    """Earlier starts at this place that made no progress there."""
    suspects: dict[int, int] = field(default_factory=dict)
    """Offsets, and how many unclean ends each was being tried at."""

    @classmethod
    def of(cls, metadata: str | None) -> "Memory":
        """Read what a predecessor has left; an offset that it was just trying becomes a suspect, once more.

        Anything that is not ours says nothing.
        """
        said = offset_metadata.load(metadata)
        try:
            memory = cls(int(said.get("starts", 0)), {int(o): int(n) for o, n in said.get("suspects", {}).items()})
            if (trying := said.get("trying")) is not None:
                memory.suspects[int(trying)] = memory.suspects.get(int(trying), 0) + 1
        except (ValueError, TypeError, AttributeError):
            return cls()
        return memory

    @classmethod
    def own(cls, metadata: str | None) -> "Memory":
        """Read what this very process has left, in an earlier membership: that was no crash."""
        memory = cls.of(metadata)
        kept = offset_metadata.load(metadata).get("suspects", {})
        suspects = {int(offset): number for offset, number in kept.items()}
        return cls(max(0, memory.starts - 1), suspects)

    def forget(self, before: int) -> None:
        """What stands before this offset is done with."""
        self.suspects = {offset: number for offset, number in self.suspects.items() if offset >= before}

    def said(self, starts: int, trying: int | None = None) -> dict[str, Any]:
        """What tells a successor so; empty where there is nothing to tell."""
        said: dict[str, Any] = {}
        if starts:
            said["starts"] = starts
        if self.suspects:
            said["suspects"] = {str(offset): n for offset, n in sorted(self.suspects.items())[:MOST_SUSPECTS]}
        if trying is not None:
            said["trying"] = trying
        return said


@dataclass(slots=True)
class _Watched:
    """A partition that this process owns."""

    place: int
    """Where the group stood when the partition was assigned; -1 is nowhere yet."""
    memory: Memory
    marked: bool = False
    """Whether this start is counted."""

    @property
    def careful_below(self) -> int:
        """The offset before which one record is tried at a time; 0 is none."""
        suspected = max(self.memory.suspects, default=-1) + 1
        if self.memory.starts < CAREFUL_AFTER:
            return suspected
        window = max(self.place, 0) + (WINDOW << min(self.memory.starts - CAREFUL_AFTER, 10))
        return max(suspected, window)


class CrashGuard:
    """Counts the starts of a consumer and says how each batch is to be tried: `begin` before it, `end` after it."""

    def __init__(self, client: Consumer, backlog: Backlog, topic_id: Callable[[str], str] = lambda topic: "") -> None:
        """`topic_id` tells the id of a topic, which goes with each offset that is committed."""
        self._client = client
        self._topic_id = topic_id
        self._backlog = backlog
        self._watched: dict[Partition, _Watched] = {}
        self._careful: dict[Partition, int] = {}
        """`careful_below` of the partitions where it is not 0: hardly ever any, so that the good path costs nothing."""
        self._trying: Record | None = None
        self._ends_uncleanly = False

    def assigned(self, committed: Iterable[TopicPartition]) -> None:
        """These partitions are ours now, and this is what the group has committed in them."""
        for found in committed:
            if found.error is None:
                is_own = _noted.get((found.topic, found.partition)) == (found.offset, found.metadata)
                memory = (Memory.own if is_own else Memory.of)(found.metadata)
                memory.forget(found.offset)
                self._watched[found.topic, found.partition] = watched = _Watched(found.offset, memory)
                self._look(found.topic, found.partition)
                if watched.careful_below:
                    log.warning(
                        "the process ended uncleanly here before: trying one event at a time",
                        topic=found.topic, partition=found.partition, offset=found.offset, starts=memory.starts,
                    )  # fmt: skip

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These are another consumer's now."""
        for partition in partitions:
            self._watched.pop(partition, None)
            self._careful.pop(partition, None)

    def _look(self, topic: str, partition: int) -> None:
        """Note whether care is needed in a partition."""
        place = (topic, partition)
        if below := self._watched[place].careful_below:
            self._careful[place] = below
        else:
            self._careful.pop(place, None)

    def received(self, record: Record) -> None:
        """A record came in: where care is needed it is tried alone."""
        if self._careful and record.offset < self._careful.get(record.source, 0):
            record.split = 1

    def begin(self, batch: Sequence[Record]) -> Verdict:
        """Say what is to become of a batch; before it is handled, note that it is being tried.

        Raises DependencyDown when Kafka does not take the note.
        """
        try:
            places = {(record.topic, record.partition) for record in batch}
            self._learn(places)
            new = [place for place in places if not self._watched[place].marked]
            if new:
                self._count_start(new, batch)
            return self._judge(batch)
        except KafkaException as exception:
            raise DependencyDown(exception.args[0].str()) from exception

    def _learn(self, places: set[Partition]) -> None:
        """Ask for what was not told on assignment, as the coordinator did not answer."""
        unknown = places - self._watched.keys()
        if not unknown:
            return
        self.assigned(self._client.committed([TopicPartition(*place) for place in unknown], timeout=ASK_SECONDS))
        if missing := unknown - self._watched.keys():
            raise DependencyDown(f"the committed offset of {sorted(missing)} is not known")

    def _count_start(self, places: Iterable[Partition], batch: Sequence[Record]) -> None:
        for place in places:
            if self._watched[place].place < 0:
                self._watched[place].place = min(record.offset for record in batch if record.source == place)
        try:
            self._commit([self._mark(place, self._said(place)) for place in places])
        except KafkaException as error:
            # In the middle of a rebalance, say: the work need not wait, the next batch counts.
            log.debug("could not count the start", reason=str(error))
        else:
            for place in places:
                self._watched[place].marked = True

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
        if self.unclean_ends(record) >= TRIES:
            return "dead-letter"
        self._commit([self._mark(record.source, self._said(record.source, record.offset))])
        self._trying = record
        return "handle"

    def end(self) -> None:
        """The batch was tried, and the process lives: take the note back. What is then done is committed with it."""
        record, self._trying = self._trying, None
        if record is None or (watched := self._watched.get(record.source)) is None:
            return
        watched.memory.suspects.pop(record.offset, None)
        said = self._said(record.source)
        self._look(*record.source)
        try:
            self._commit([self._mark(record.source, said)])
        except KafkaException as error:
            log.warning("could not note that an event was tried", reason=str(error), **record.log_fields())

    def unclean_ends(self, record: Record) -> int:
        """How many unclean ends a record was being tried at."""
        return self._watched[record.source].memory.suspects.get(record.offset, 0)

    def keep(self) -> None:
        """The process ends by an exception: what is noted stands, as after a crash."""
        self._ends_uncleanly = True

    def leave(self, partitions: Iterable[Partition]) -> None:
        """A clean end, or another consumer's turn: this start is not one that ended uncleanly."""
        if self._ends_uncleanly:
            return
        marks = [
            self._mark(place, watched.memory.said(watched.memory.starts))
            for place in partitions
            if (watched := self._watched.get(place)) and watched.marked and self._place(place) == watched.place
        ]
        try:
            self._commit(marks)
        except KafkaException as error:
            log.debug("could not take the count of starts back", reason=str(error))

    def _said(self, place: Partition, trying: int | None = None) -> dict[str, Any]:
        """What to note at a place: progress forgets the starts, and not the suspects."""
        watched = self._watched[place]
        watched.memory.forget(self._place(place))
        starts = watched.memory.starts + 1 if self._place(place) == watched.place else 0
        return watched.memory.said(starts, trying)

    def _place(self, place: Partition) -> int:
        """The offset that the group has, or may have, committed."""
        done = self._backlog.done(place)
        return self._watched[place].place if done is None else max(done, self._watched[place].place)

    def _mark(self, place: Partition, said: dict[str, Any]) -> TopicPartition:
        topic, partition = place
        if known := self._topic_id(topic):
            said = said | {topic_ids.ID: known}
        return TopicPartition(topic, partition, self._place(place), offset_metadata.dump(said))

    def _commit(self, marks: list[TopicPartition]) -> None:
        """Raises KafkaException, also for one of them."""
        if not marks:
            return
        for done in self._client.commit(offsets=marks, asynchronous=False) or ():
            if done.error is not None:
                raise KafkaException(done.error)
        _noted.update({(mark.topic, mark.partition): (mark.offset, mark.metadata) for mark in marks})
        self._backlog.committed({(mark.topic, mark.partition): mark.offset for mark in marks})
