"""What a consumer holds: the order of each key, who waits for whom, and how far the offsets may be committed.

Pure bookkeeping, no I/O and no clock of its own. A record is *fresh* until it is tried; a record that failed blocks its
lane (its key in its partition), and later records of that lane wait behind it while all other lanes go on. When it is
done with, those *go on in parts*, so that other lanes are not behind all that has waited.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable

from chassis.messaging.records import Partition, Record

Lane = tuple[str, int, bytes | None]


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


class Backlog:
    """All records that were received and are not finished."""

    def __init__(self) -> None:
        self._fresh: deque[Record] = deque()
        self._waiting: dict[Lane, deque[Record]] = {}
        """By lane, in order: the failed record and those behind it; or, once it is done with, those that did not go on yet."""
        self._going_on: dict[Lane, None] = {}
        """The lanes whose waiting records go on, the one whose turn it is first."""
        self._due: list[tuple[float, int, Record]] = []
        self._offsets: dict[Partition, PartitionOffsets] = {}
        self._committed: dict[Partition, int] = {}
        self._held: dict[Partition, tuple[int, int]] = {}
        self._tie = 0

    def __len__(self) -> int:
        return len(self._fresh) + sum(len(lane) for lane in self._waiting.values())

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
        if (waiting := self._waiting.get(record.lane)) is not None:
            waiting.append(record)
            self._count(record, +1)
        else:
            self._fresh.append(record)

    def take(self, limit: int, now: float, most_bytes: float = math.inf) -> list[Record]:
        """The next records to try together: one that is due again, alone; else up to `limit` fresh ones, in order.

        With more than `most_bytes` only a record that is alone.

        They are out of the backlog until `finish`, `put_back`, `split` or `fail` says what became of them.
        """
        if (again := self._next_due(now)) is not None:
            return [again]
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
        """One lane's waiting records become fresh, behind what is: half a batch, or all that is free. The lanes take turns."""
        if not self._going_on or len(self._fresh) > limit:
            return
        lane = next(iter(self._going_on))
        del self._going_on[lane]
        waiting = self._waiting[lane]
        for _ in range(min(len(waiting), max(-(-limit // 2), limit - len(self._fresh)))):
            record = waiting.popleft()
            self._count(record, -1)
            self._fresh.append(record)
        if waiting:
            self._going_on[lane] = None
        else:
            del self._waiting[lane]

    def _next_due(self, now: float) -> Record | None:
        while self._due and self._due[0][0] <= now:
            _, _, record = heapq.heappop(self._due)
            if self._is_blocking(record):  # else it was dropped with its partition
                return record
        return None

    def next_due(self) -> float | None:
        """When there is something to take beside the fresh: 0.0 is now, None is never."""
        if self._going_on:
            return 0.0
        return self._due[0][0] if self._due else None

    def finish(self, batch: Iterable[Record]) -> None:
        """The work of these records is committed (or they are safe in a dead-letter topic)."""
        for record in batch:
            if (offsets := self._offsets.get(record.source)) is None:
                continue
            offsets.finish(record.offset)
            if self._is_blocking(record):
                self._unblock(record)

    def _unblock(self, record: Record) -> None:
        lane = record.lane
        waiting = self._waiting[lane]
        waiting.popleft()
        self._count(record, -1)
        if waiting:
            self._going_on[lane] = None
        else:
            del self._waiting[lane]

    def put_back(self, batch: list[Record]) -> None:
        """Nothing became of these records, and it was not their fault: they are next again, in the same order."""
        if len(batch) == 1 and self._is_blocking(batch[0]):
            self._schedule(batch[0], 0.0)
        else:
            self._fresh.extendleft(reversed(batch))

    def split(self, batch: list[Record]) -> None:
        """A batch failed: try its halves, so that the failing record is found in log2 steps."""
        half = -(-len(batch) // 2)
        for record in batch:
            record.split = half
        self._fresh.extendleft(reversed(batch))

    def fail(self, record: Record, retry_at: float) -> None:
        """A record failed by itself: its lane waits until it succeeds, or is dead-lettered."""
        if not self._is_blocking(record):
            self._block(record)
        self._schedule(record, retry_at)

    def _block(self, record: Record) -> None:
        lane = record.lane
        behind: list[Record] = []
        others: deque[Record] = deque()
        for one in self._fresh:
            (behind if one.lane == lane else others).append(one)
        self._fresh = others
        for one in (record, *behind):
            self._count(one, +1)
        # What was to go on after it stands already there, and is counted.
        self._waiting[lane] = deque([record, *behind, *self._waiting.get(lane, ())])
        self._going_on.pop(lane, None)

    def _is_blocking(self, record: Record) -> bool:
        waiting = self._waiting.get(record.lane)
        return bool(waiting) and waiting[0] is record  # type: ignore[index]

    def _schedule(self, record: Record, at: float) -> None:
        self._tie += 1
        heapq.heappush(self._due, (at, self._tie, record))

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
        for lane in [lane for lane in self._waiting if (lane[0], lane[1]) in gone]:
            del self._waiting[lane]
            self._going_on.pop(lane, None)
        for partition in gone:
            self._offsets.pop(partition, None)
            self._committed.pop(partition, None)
            self._held.pop(partition, None)
