"""What a consumer holds: the order of each key, who waits for whom, and how far the offsets may be committed.

Pure bookkeeping, no I/O and no clock of its own. A record is *fresh* until it is tried; a record that failed blocks its
*key queue* (its key in its partition): later records of that queue wait behind it while all others proceed. Once it is
resolved, held records *resume* in chunks, so that other key queues are not behind all of them. All records of a *stopped*
topic wait, and are given out one at a time, as probes.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from chassis.consumer.schedule import COSTLY_SECONDS, Schedule
from chassis.kafka.records import Partition, Record

KeyQueue = tuple[str, int, bytes | None]


class PartitionOffsets:
    """The offsets of one partition that are in hand; what stands before the oldest unfinished one may be committed."""

    def __init__(self) -> None:
        self.outstanding: deque[int] = deque()
        self.done: set[int] = set()
        self.committable: int | None = None

    def add(self, offset: int) -> None:
        """An offset was received. Offsets of a partition come in rising order, with gaps."""
        self.outstanding.append(offset)

    def finish(self, offset: int) -> None:
        """An offset's work is committed."""
        self.done.add(offset)
        while self.outstanding and self.outstanding[0] in self.done:
            oldest = self.outstanding.popleft()
            self.done.remove(oldest)
            self.committable = oldest + 1

    def committable_with(self, extra: set[int]) -> int | None:
        """What could be committed if `extra` were finished too."""
        answer = self.committable
        for offset in self.outstanding:
            if offset not in self.done and offset not in extra:
                break
            answer = offset + 1
        return answer


@dataclass(slots=True)
class StoppedTopic:
    """What waits of a topic of which nothing but probes is tried."""

    untried: dict[KeyQueue, None] = field(default_factory=dict)
    """Key queues whose first record could be tried."""
    failed: deque[Record] = field(default_factory=deque)
    """First records of their key queues that failed and are due again, the one that was tried longest ago first."""


class Backlog:
    """All records that were received and are not finished."""

    def __init__(self) -> None:
        self._fresh: deque[Record] = deque()
        self._waiting: dict[KeyQueue, deque[Record]] = {}
        """By key queue, in order: the failed record and those behind it; or, once it is resolved, those that have not resumed yet."""
        self._resuming: dict[KeyQueue, None] = {}
        """The key queues whose waiting records resume, the one whose turn it is first."""
        self._schedule = Schedule()
        self._stopped: dict[str, StoppedTopic] = {}
        self._offsets: dict[Partition, PartitionOffsets] = {}
        self._committed: dict[Partition, int] = {}
        self._held: dict[Partition, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._fresh) + sum(len(queue) for queue in self._waiting.values())

    @property
    def fresh(self) -> int:
        """How many records could be tried, as soon as it is their turn."""
        return len(self._fresh)

    @property
    def fresh_bytes(self) -> int:
        """How many bytes these have."""
        return sum(record.size for record in self._fresh)

    @property
    def held_events(self) -> dict[Partition, int]:
        """How many records of each partition wait behind failing ones (these included)."""
        return {partition: number for partition, (number, _) in self._held.items() if number}

    @property
    def held_bytes(self) -> dict[Partition, int]:
        """How many bytes these have."""
        return {partition: size for partition, (_, size) in self._held.items() if size}

    @property
    def spans(self) -> dict[Partition, int]:
        """How many offsets of each partition are remembered, from its oldest unfinished record on."""
        return {place: len(offsets.outstanding) for place, offsets in self._offsets.items() if offsets.outstanding}

    def held(self, partition: Partition) -> tuple[int, int]:
        """How many records, and bytes, of a partition wait behind failing ones (these included)."""
        return self._held.get(partition, (0, 0))

    def begin(self, partition: Partition, offset: int) -> None:
        """All of a partition before this offset was finished by others; known from the first finished record at the latest."""
        offsets = self._offsets.setdefault(partition, PartitionOffsets())
        if offsets.committable is None:
            offsets.committable = self._committed[partition] = offset

    def add(self, record: Record) -> None:
        """Take in a record that was just received."""
        self._offsets.setdefault(record.source, PartitionOffsets()).add(record.offset)
        if (waiting := self._waiting.get(record.key_queue)) is not None:
            waiting.append(record)
            self._count(record, +1)
        elif record.topic in self._stopped:
            self._wait(record.key_queue, [record])
        else:
            self._fresh.append(record)

    def take(self, limit: int, now: float, most_bytes: float = math.inf) -> list[Record]:
        """The next records to try together: one that is due again, alone; else up to `limit` fresh ones, in order.

        With more than `most_bytes` only a record that is alone. A patient retry goes before fresh ones only after they have had
        their turn (`Schedule`). The records are out of the backlog until `finish`, `put_back`, `split` or `fail` says what became
        of them.
        """
        again = self._next_due(now, alone=False)
        if again is None and (batch := self._take_fresh(limit, most_bytes)):
            self._schedule.others_came()
            return batch
        again = again or self._next_due(now, alone=True)
        return [] if again is None else [again]

    def _take_fresh(self, limit: int, most_bytes: float) -> list[Record]:
        self._let_some_go_on(limit)
        batch: list[Record] = []
        size = 0
        while self._fresh and len(batch) < limit:
            record = self._fresh[0]
            size += record.size
            if batch and size > most_bytes:
                break
            if record.split:
                limit = min(limit, record.split)
                if len(batch) >= limit:
                    break
            self._fresh.popleft()
            batch.append(record)
        return batch

    def _let_some_go_on(self, limit: int) -> None:
        """Waiting records become fresh, behind what is: half a batch, or all that is free. The key queues take turns."""
        if not self._resuming or len(self._fresh) > limit:
            return
        room = max(-(-limit // 2), limit - len(self._fresh))
        while room and self._resuming:
            queue = next(iter(self._resuming))
            del self._resuming[queue]
            waiting = self._waiting[queue]
            number = min(len(waiting), room)
            for _ in range(number):
                record = waiting.popleft()
                self._count(record, -1)
                self._fresh.append(record)
            room -= number
            if waiting:
                self._resuming[queue] = None
            else:
                del self._waiting[queue]

    def _next_due(self, now: float, *, alone: bool) -> Record | None:
        while (record := self._schedule.pop(now, alone=alone)) is not None:
            if not self._is_blocking(record):
                continue  # it was dropped with its partition
            if (stopped := self._stopped.get(record.topic)) is None:
                return record
            stopped.failed.append(record)
        return None

    def next_due(self) -> float | None:
        """When there is something to take beside the fresh: 0.0 is now, None is never."""
        return 0.0 if self._resuming else self._schedule.next()

    def took(self, record: Record, seconds: float, now: float) -> None:
        """A try of this record alone has taken so long; the next one is expected to take as long."""
        record.cost = seconds
        self._schedule.took(seconds, now)

    def stood_still(self, seconds: float, now: float) -> None:
        """A try of several records has taken so long, and nothing came of it."""
        self._schedule.took(seconds, now)

    @property
    def costly(self) -> bool:
        """Whether a record waits for a retry that is expected to take long."""
        return any(self._is_blocking(record) and record.cost >= COSTLY_SECONDS for record in self._schedule.patient())

    def finish(self, batch: Iterable[Record]) -> None:
        """The work of these records is committed (or they are safe in a dead-letter topic)."""
        for record in batch:
            if (offsets := self._offsets.get(record.source)) is None:
                continue
            offsets.finish(record.offset)
            if self._is_blocking(record):
                self._unblock(record)

    def _unblock(self, record: Record) -> None:
        queue = record.key_queue
        waiting = self._waiting[queue]
        waiting.popleft()
        self._count(record, -1)
        if waiting:
            self._ready(queue)[queue] = None
        else:
            del self._waiting[queue]

    def _ready(self, queue: KeyQueue) -> dict[KeyQueue, None]:
        """Where this key queue stands while its waiting records may be tried."""
        stopped = self._stopped.get(queue[0])
        return self._resuming if stopped is None else stopped.untried

    def put_back(self, batch: list[Record]) -> None:
        """Nothing became of these records, and it was not their fault: they are next again, in the same order."""
        if len(batch) == 1 and self._is_blocking(batch[0]):
            self._schedule.push(batch[0], 0.0)
        else:
            self._fresh.extendleft(reversed(batch))

    def split(self, batch: list[Record], size: int = 0) -> None:
        """A batch failed: try its halves, so that the failing record is found in log2 steps; or parts of `size`."""
        size = size or -(-len(batch) // 2)
        for record in batch:
            record.split = size
        self._fresh.extendleft(reversed(batch))

    def fail(self, record: Record, retry_at: float) -> None:
        """A record failed by itself: its key queue waits until it succeeds, or is dead-lettered."""
        if not self._is_blocking(record):
            self._block(record)
        self._schedule.push(record, retry_at)

    def _block(self, record: Record) -> None:
        queue = record.key_queue
        behind: list[Record] = []
        others: deque[Record] = deque()
        for one in self._fresh:
            (behind if one.key_queue == queue else others).append(one)
        self._fresh = others
        for one in (record, *behind):
            self._count(one, +1)
        # What was to go on after it stands already there, and is counted.
        self._waiting[queue] = deque([record, *behind, *self._waiting.get(queue, ())])
        self._ready(queue).pop(queue, None)

    # --- a stopped topic ---

    def stop(self, topic: str) -> None:
        """From now on nothing of this topic is tried but probes."""
        fresh: dict[KeyQueue, list[Record]] = {}
        others: deque[Record] = deque()
        for record in self._fresh:
            if record.topic == topic:
                fresh.setdefault(record.key_queue, []).append(record)
            else:
                others.append(record)
        self._fresh = others
        self._stopped[topic] = stopped = StoppedTopic()
        for queue, records in fresh.items():
            self._wait(queue, records)
        for queue in [queue for queue in self._resuming if queue[0] == topic]:
            del self._resuming[queue]
            stopped.untried[queue] = None
        for queue in [queue for queue in stopped.untried if self._waiting[queue][0].failed_at]:
            del stopped.untried[queue]
            stopped.failed.append(self._waiting[queue][0])

    def _wait(self, queue: KeyQueue, records: list[Record]) -> None:
        """Let fresh records wait, before what waits of their key queue, until they may be tried."""
        waiting = self._waiting.setdefault(queue, deque())
        waiting.extendleft(reversed(records))
        self._ready(queue)[queue] = None
        for record in records:
            self._count(record, +1)

    def probe(self, topic: str, *, failed: bool) -> Record | None:
        """A record of a stopped topic to try alone: the one that failed longest ago, or the first that was not tried yet.

        Where there is none of the kind that is asked for it is one of the other kind, or None.
        """
        stopped = self._stopped[topic]
        while stopped.failed and not self._is_blocking(stopped.failed[0]):
            stopped.failed.popleft()  # it was dropped with its partition
        if stopped.failed and (failed or not stopped.untried):
            return stopped.failed.popleft()
        if not stopped.untried:
            return None
        queue = next(iter(stopped.untried))
        del stopped.untried[queue]
        return self._waiting[queue][0]

    def has_untried(self, topic: str) -> bool:
        """Whether records of a stopped topic were not tried yet."""
        return bool(self._stopped[topic].untried)

    def resume(self, topic: str) -> None:
        """All of a stopped topic may be tried again; what had failed comes last, so that nothing waits for it twice."""
        stopped = self._stopped.pop(topic)
        self._resuming |= stopped.untried
        for record in stopped.failed:
            if not self._is_blocking(record):
                continue
            if record.cost >= COSTLY_SECONDS:
                self._schedule.push(record, 0.0)
            else:
                self._resuming[record.key_queue] = None

    def _is_blocking(self, record: Record) -> bool:
        waiting = self._waiting.get(record.key_queue)
        return bool(waiting) and waiting[0] is record  # type: ignore[index]

    def _count(self, record: Record, step: int) -> None:
        number, size = self._held.get(record.source, (0, 0))
        self._held[record.source] = (number + step, size + step * record.size)

    def offsets(self, assuming: Iterable[Record] = ()) -> dict[Partition, int]:
        """The offsets to commit that were not yet: for each partition, up to its oldest unfinished record.

        `assuming` are records that will be finished by the very transaction that commits these offsets.
        """
        extra: dict[Partition, set[int]] = {}
        for record in assuming:
            extra.setdefault(record.source, set()).add(record.offset)
        answer: dict[Partition, int] = {}
        for partition, offsets in self._offsets.items():
            upto = offsets.committable_with(extra[partition]) if partition in extra else offsets.committable
            if upto is not None and upto != self._committed.get(partition):
                answer[partition] = upto
        return answer

    def done(self, partition: Partition) -> int | None:
        """The offset up to which all of a partition is finished, or None while that is not known."""
        offsets = self._offsets.get(partition)
        return offsets.committable if offsets else None

    def committed(self, offsets: dict[Partition, int]) -> None:
        """These offsets are committed, or on their way."""
        self._committed |= offsets

    def not_committed(self, partitions: Iterable[Partition]) -> None:
        """What was on its way for these has failed: it is to be committed again."""
        for partition in partitions:
            self._committed.pop(partition, None)

    def drop(self, partitions: Iterable[Partition]) -> None:
        """These partitions are another consumer's now: forget what was held of them."""
        gone = set(partitions)
        self._fresh = deque(record for record in self._fresh if record.source not in gone)
        for queue in [queue for queue in self._waiting if (queue[0], queue[1]) in gone]:
            del self._waiting[queue]
            self._ready(queue).pop(queue, None)
        for partition in gone:
            self._offsets.pop(partition, None)
            self._committed.pop(partition, None)
            self._held.pop(partition, None)
