"""The backlog: the unfinished records of a consumer, the order of each key, and how far the offsets may be committed.

Pure bookkeeping, without I/O and without a clock. A record is *fresh* until it is tried. A record that failed blocks its
*key queue* (its key in its partition): later records of that queue wait behind it while all others proceed. Once it is
resolved, held records *resume* in chunks, so that other key queues do not wait behind all of them. All records of a
*stopped* topic wait, and are tried one at a time, as probes.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from chassis.consumer.schedule import COSTLY_SECONDS, Schedule
from chassis.kafka.records import Partition, Record

KeyQueue = tuple[str, int, bytes | None]


class PartitionOffsets:
    """The received offsets of one partition; those before the oldest unfinished one may be committed."""

    def __init__(self) -> None:
        self.outstanding: deque[int] = deque()
        self.done: set[int] = set()
        self.committable: int | None = None

    def add(self, offset: int) -> None:
        """Add a received offset. Offsets of a partition arrive in ascending order, with gaps."""
        self.outstanding.append(offset)

    def finish(self, offset: int) -> None:
        """Mark an offset as finished."""
        self.done.add(offset)
        while self.outstanding and self.outstanding[0] in self.done:
            oldest = self.outstanding.popleft()
            self.done.remove(oldest)
            self.committable = oldest + 1

    def committable_with(self, extra: set[int]) -> int | None:
        """The offset that could be committed if `extra` were finished too."""
        answer = self.committable
        for offset in self.outstanding:
            if offset not in self.done and offset not in extra:
                break
            answer = offset + 1
        return answer


@dataclass(slots=True)
class StoppedTopic:
    """The waiting records of a stopped topic, of which only probes are tried."""

    untried: dict[KeyQueue, None] = field(default_factory=dict)
    """Key queues whose first record has not been tried."""
    failed: deque[Record] = field(default_factory=deque)
    """First records of their key queues that failed and are due again, least recently tried first."""


class Backlog:
    """All records that have been received and are not finished."""

    def __init__(self) -> None:
        self._fresh: deque[Record] = deque()
        self._waiting: dict[KeyQueue, deque[Record]] = {}
        """By key queue, in order: the failed record and those behind it; once it is resolved, those that have not resumed yet."""
        self._resuming: dict[KeyQueue, None] = {}
        """The key queues whose waiting records resume, the next one first."""
        self._schedule = Schedule()
        self._stopped: dict[str, StoppedTopic] = {}
        self._offsets: dict[Partition, PartitionOffsets] = {}
        self._committed: dict[Partition, int] = {}
        self._held: dict[Partition, tuple[int, int]] = {}
        self._blocked: set[KeyQueue] = set()

    def __len__(self) -> int:
        return len(self._fresh) + sum(len(queue) for queue in self._waiting.values())

    @property
    def fresh(self) -> int:
        """The number of fresh records."""
        return len(self._fresh)

    @property
    def fresh_bytes(self) -> int:
        """The size of the fresh records, in bytes."""
        return sum(record.size for record in self._fresh)

    @property
    def held_events(self) -> dict[Partition, int]:
        """The number of held records per partition: failed ones and those behind them. Any thread may ask."""
        held = dict(self._held)  # atomic
        return {partition: number for partition, (number, _) in held.items() if number}

    @property
    def blocked_keys(self) -> Counter[str]:
        """The number of key queues per topic whose first record failed and will be retried. Any thread may ask."""
        blocked = tuple(self._blocked)  # atomic
        return Counter(topic for topic, _, _ in blocked)

    @property
    def held_bytes(self) -> dict[Partition, int]:
        """The size of the held records per partition, in bytes."""
        return {partition: size for partition, (_, size) in self._held.items() if size}

    @property
    def spans(self) -> dict[Partition, int]:
        """The number of offsets in memory per partition, from its oldest unfinished record onwards."""
        return {place: len(offsets.outstanding) for place, offsets in self._offsets.items() if offsets.outstanding}

    def held(self, partition: Partition) -> tuple[int, int]:
        """The number of held records of a partition, and their size in bytes."""
        return self._held.get(partition, (0, 0))

    def begin(self, partition: Partition, offset: int) -> None:
        """Set the offset at which this consumer starts in a partition; without it, the first finished record shows it."""
        offsets = self._offsets.setdefault(partition, PartitionOffsets())
        if offsets.committable is None:
            offsets.committable = self._committed[partition] = offset

    def skip(self, partition: Partition, offset: int) -> bool:
        """Note that no more records before this offset will be received. Returns whether all before it are finished."""
        offsets = self._offsets.setdefault(partition, PartitionOffsets())
        offsets.add(offset - 1)
        offsets.finish(offset - 1)
        return offsets.committable == offset

    def add(self, record: Record) -> None:
        """Add a record that was just received."""
        self._offsets.setdefault(record.source, PartitionOffsets()).add(record.offset)
        if (waiting := self._waiting.get(record.key_queue)) is not None:
            waiting.append(record)
            self._count(record, +1)
        elif record.topic in self._stopped:
            self._wait(record.key_queue, [record])
        else:
            self._fresh.append(record)

    def take(self, limit: int, now: float, most_bytes: float = math.inf) -> list[Record]:
        """Take the next records to try together: a single one that is due again, or else up to `limit` fresh ones, in order.

        A batch exceeds `most_bytes` only if it is a single record. A patient retry is taken only after fresh records have had
        their turn (`Schedule`). The records are out of the backlog until `finish`, `put_back`, `split` or `fail` is called.
        """
        again = self._next_due(now, alone=False)
        if again is None and (batch := self._take_fresh(limit, most_bytes)):
            self._schedule.others_ran()
            return batch
        again = again or self._next_due(now, alone=True)
        return [] if again is None else [again]

    def _take_fresh(self, limit: int, most_bytes: float) -> list[Record]:
        self._resume_waiting(limit)
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

    def _resume_waiting(self, limit: int) -> None:
        """Make waiting records fresh, after those that already are: half a batch, or more if there is room.

        The key queues take turns.
        """
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
                continue  # its partition was revoked
            if (stopped := self._stopped.get(record.topic)) is None:
                return record
            stopped.failed.append(record)
        return None

    def next_due(self) -> float | None:
        """When there is something to take apart from fresh records: 0.0 is now, None is never."""
        return 0.0 if self._resuming else self._schedule.next()

    def attempt_took(self, record: Record, seconds: float, now: float) -> None:
        """Record how long an attempt with this record alone took; the next one is expected to take as long."""
        record.cost = seconds
        self._schedule.attempt_took(seconds, now)

    def batch_took(self, seconds: float, now: float) -> None:
        """Record how long a failed attempt with several records delayed the others."""
        self._schedule.attempt_took(seconds, now)

    @property
    def costly(self) -> bool:
        """Whether a record waits for a retry that is expected to take a long time."""
        return any(self._is_blocking(record) and record.cost >= COSTLY_SECONDS for record in self._schedule.patient())

    def finish(self, batch: Iterable[Record]) -> None:
        """Mark these records as finished: their effects, or their dead letters, are committed."""
        for record in batch:
            if (offsets := self._offsets.get(record.source)) is None:
                continue
            offsets.finish(record.offset)
            if self._is_blocking(record):
                self._unblock(record)

    def _unblock(self, record: Record) -> None:
        queue = record.key_queue
        self._blocked.discard(queue)
        waiting = self._waiting[queue]
        waiting.popleft()
        self._count(record, -1)
        if waiting:
            self._ready(queue)[queue] = None
        else:
            del self._waiting[queue]

    def _ready(self, queue: KeyQueue) -> dict[KeyQueue, None]:
        """The set that contains this key queue while its waiting records may be tried."""
        stopped = self._stopped.get(queue[0])
        return self._resuming if stopped is None else stopped.untried

    def put_back(self, batch: list[Record]) -> None:
        """Return records that were not processed for a reason that is not theirs; they are next again, in the same order."""
        if len(batch) == 1 and self._is_blocking(batch[0]):
            self._schedule.push(batch[0], 0.0)
        else:
            self._fresh.extendleft(reversed(batch))

    def split(self, batch: list[Record], size: int = 0) -> None:
        """Return a batch that failed, to be tried in halves, which finds the failing record in log2 steps; or in parts of `size`."""
        size = size or -(-len(batch) // 2)
        for record in batch:
            record.split = size
        self._fresh.extendleft(reversed(batch))

    def fail(self, record: Record, retry_at: float) -> None:
        """Return a record that failed alone: its key queue waits until it succeeds or is dead-lettered."""
        if not self._is_blocking(record):
            self._block(record)
        self._blocked.add(record.key_queue)
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
        # Records of this queue that have not resumed yet are already waiting, and counted.
        self._waiting[queue] = deque([record, *behind, *self._waiting.get(queue, ())])
        self._ready(queue).pop(queue, None)

    # --- a stopped topic ---

    def stop(self, topic: str) -> None:
        """Stop a topic: from now on, only probes of it are tried."""
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
        """Make fresh records wait, before those that already wait in their key queue, until they may be tried."""
        waiting = self._waiting.setdefault(queue, deque())
        waiting.extendleft(reversed(records))
        self._ready(queue)[queue] = None
        for record in records:
            self._count(record, +1)

    def probe(self, topic: str, *, failed: bool) -> Record | None:
        """Return a record of a stopped topic to try alone, or None.

        With `failed` it is the one that failed longest ago, otherwise the first that has not been tried. If there is none of
        the requested kind, it is one of the other kind.
        """
        stopped = self._stopped[topic]
        while stopped.failed and not self._is_blocking(stopped.failed[0]):
            stopped.failed.popleft()  # its partition was revoked
        if stopped.failed and (failed or not stopped.untried):
            return stopped.failed.popleft()
        if not stopped.untried:
            return None
        queue = next(iter(stopped.untried))
        del stopped.untried[queue]
        return self._waiting[queue][0]

    def has_untried(self, topic: str) -> bool:
        """Whether a stopped topic has records that have not been tried."""
        return bool(self._stopped[topic].untried)

    def resume(self, topic: str) -> None:
        """Resume a stopped topic: all of its records may be tried again, those that failed last, so that nothing waits twice."""
        stopped = self._stopped.pop(topic)
        self._resuming |= stopped.untried
        for record in stopped.failed:
            if not self._is_blocking(record):
                continue
            if record.cost >= COSTLY_SECONDS:
                self._schedule.push(record, 0.0)
            else:
                self._resuming[record.key_queue] = None
                self._blocked.discard(record.key_queue)

    def _is_blocking(self, record: Record) -> bool:
        waiting = self._waiting.get(record.key_queue)
        return bool(waiting) and waiting[0] is record  # type: ignore[index]

    def _count(self, record: Record, step: int) -> None:
        number, size = self._held.get(record.source, (0, 0))
        self._held[record.source] = (number + step, size + step * record.size)

    def offsets(self, assuming: Iterable[Record] = ()) -> dict[Partition, int]:
        """The offsets to commit, unless they are committed already: for each partition, up to its oldest unfinished record.

        `assuming` are the records that the transaction which commits these offsets finishes.
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
        """The offset before which every record of a partition is finished, or None if it is not known."""
        offsets = self._offsets.get(partition)
        return offsets.committable if offsets else None

    def committed(self, offsets: dict[Partition, int]) -> None:
        """Note that these offsets are committed, or that an asynchronous commit of them was sent."""
        self._committed |= offsets

    def not_committed(self, partitions: Iterable[Partition]) -> None:
        """Note that an asynchronous commit for these partitions failed, so that their offsets are committed again."""
        for partition in partitions:
            self._committed.pop(partition, None)

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Drop all records of partitions that another consumer owns now."""
        gone = set(partitions)
        self._fresh = deque(record for record in self._fresh if record.source not in gone)
        for queue in [queue for queue in self._waiting if (queue[0], queue[1]) in gone]:
            del self._waiting[queue]
            self._ready(queue).pop(queue, None)
        self._blocked = {queue for queue in self._blocked if (queue[0], queue[1]) not in gone}
        for partition in gone:
            self._offsets.pop(partition, None)
            self._committed.pop(partition, None)
            self._held.pop(partition, None)
