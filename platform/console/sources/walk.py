"""Looking at the records of a topic from its end, or from a point in it, for those that are wanted.

All partitions are read at once and merged by time. Each is read backwards in portions, of which only the bounds are known:
transactions leave gaps, and a record may have any size. A walk ends when it has found enough, or has looked for long enough;
then it says how far it came, and another one continues there.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chassis.kafka.records import Record

SECONDS = 1.5
"""How long one walk looks."""
MOST_SECONDS = 8.0
"""How long it looks for the first record: each walk comes further, however slow the brokers or large the records are."""
MOST_BYTES = 64_000_000
"""How much one walk looks at, unless its path says less."""
PORTION_BYTES = 8_000_000
"""Size of the records that are in memory at the same time, unless one record alone is larger."""
FIRST, SEARCHED, WIDEST, GROWTH = 32, 2_048, 32_768, 2
"""Number of offsets of the first portion of each partition (if few or most records are wanted), and of the largest one; and by
how much each is larger than the one before.

Brokers send whole batches: in small portions, the same batch would be read again and again."""

Ranges = Mapping[int, tuple[int, int]]
"""The first offset, and the one after the last, by the number of the partition."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where reading a portion ends before its range does: bytes, a time by `time.monotonic()`, and a number of records."""

    size: int
    deadline: float
    records: int = 1_000_000


Read = Callable[[dict[int, tuple[int, int]], Limits], tuple[list[Record], set[int]]]
"""Reads ranges: returns the records, in order per partition, and the partitions that were not read to the end of their range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """How to walk. `wanted` selects records, and `keep` makes what is returned of one: the record itself may be large."""

    wanted: Callable[[Record], bool]
    keep: Callable[[Record], Any]
    most: int
    """Ends after so many."""
    most_bytes: int = MOST_BYTES
    first: int = FIRST
    """Number of offsets of the first portion of each partition."""
    newest_first: bool = True
    at: Mapping[int, int] = field(default_factory=dict)
    """Where to begin in these partitions: with the record before this offset, or oldest first, at this offset."""


@dataclass(frozen=True, slots=True)
class Walked:
    """The result of a walk."""

    found: tuple[Any, ...]
    at: Mapping[int, int]
    """Where to continue; empty if there is nothing more."""
    records: int
    """How many records it looked at."""
    size: int
    """Their size in bytes."""
    seconds: float
    reached_ms: int | None
    """The time of the last record that it looked at, in milliseconds since the epoch."""
    left: int
    """The number of offsets that it did not look at."""
    unknown: tuple[int, ...] = ()
    """Partitions that do not respond now: their records are missing."""


class _Part:
    """A partition: what is left of its range, and the records of it that were read and not looked at yet."""

    def __init__(self, number: int, begin: int, end: int, path: Path) -> None:
        self.number = number
        self.records: deque[Record] = deque()
        self.width = path.first
        self._begin, self._end = begin, max(begin, end)
        self._newest_first = path.newest_first

    @property
    def unread(self) -> int:
        return self._end - self._begin

    @property
    def at(self) -> int:
        """Where another walk continues."""
        if self._newest_first:
            return self.records[0].offset + 1 if self.records else self._end
        return self.records[0].offset if self.records else self._begin

    @property
    def left(self) -> int:
        return self.at - self._begin if self._newest_first else self._end - self.at

    def portion(self) -> tuple[int, int]:
        width = min(self.width, self.unread)
        return (self._end - width, self._end) if self._newest_first else (self._begin, self._begin + width)

    def take(self, portion: tuple[int, int], records: list[Record], *, complete: bool, most: int) -> None:
        """Take what was read of a portion. Of an incomplete one, what is nearest may be missing: then it is read again, smaller."""
        size = sum(record.size for record in records)
        if complete:
            self.records.extend(reversed(records) if self._newest_first else records)
            if self._newest_first:
                self._end = portion[0]
            else:
                self._begin = portion[1]
            fitting = most * max(1, len(records)) // max(1, size)
            self.width = max(1, min(self.width * GROWTH, fitting, WIDEST))
        elif records and self._newest_first:
            self.width = max(1, min(self.width // 2, len(records)))
        elif records:
            self.records.extend(records)
            self._begin = records[-1].offset + 1


def walk(path: Path, ranges: Ranges, read: Read) -> Walked:
    """Look at the records in these ranges along `path`."""
    begun = time.monotonic()
    state = _Walk(path, ranges, read, begun)
    state.run()
    unknown = tuple(number for number, (begin, end) in sorted(ranges.items()) if begin < 0 or end < 0)
    # A partition that does not respond now is continued where an earlier page left it.
    kept = {number: path.at[number] for number in unknown if number in path.at}
    is_more = any(part.left for part in state.parts)
    return Walked(
        found=tuple(state.found),
        at=kept | {part.number: part.at for part in state.parts} if is_more or kept else {},
        records=state.looked,
        size=state.size,
        seconds=time.monotonic() - begun,
        reached_ms=state.reached_ms,
        left=sum(part.left for part in state.parts),
        unknown=unknown,
    )


class _Walk:
    def __init__(self, path: Path, ranges: Ranges, read: Read, begun: float) -> None:
        self.parts = [
            _part(path, number, begin, end)
            for number, (begin, end) in sorted(ranges.items())
            if begin >= 0 and end >= 0
        ]
        self.found: list[Any] = []
        self.looked = self.size = 0
        self.reached_ms: int | None = None
        self._path, self._read = path, read
        self._deadline, self._latest = begun + SECONDS, begun + MOST_SECONDS
        self._sign = -1 if path.newest_first else 1

    def run(self) -> None:
        """Look, until there is enough, nothing more, or no more time."""
        while self._fill():
            heads = [self._head(part) for part in self.parts if part.records]
            heapq.heapify(heads)
            while heads:
                part = self.parts[heads[0][2]]
                self._look(part.records.popleft())
                if len(self.found) >= self._path.most:
                    return
                if part.records:
                    heapq.heapreplace(heads, self._head(part))
                elif part.unread:
                    break
                else:
                    heapq.heappop(heads)

    def _fill(self) -> bool:
        """Read until every partition has a record to compare, or has ended. False if there is none, or no more time."""
        while any(not part.records and part.unread for part in self.parts):
            if time.monotonic() > self._end() or self.size >= self._path.most_bytes:
                return False
            wanting = [part for part in self.parts if part.unread and len(part.records) < part.width // 4 + 1]
            self._read_portions([part for part in wanting if not part.records or part.width < WIDEST])
        return any(part.records for part in self.parts)

    def _read_portions(self, parts: list[_Part]) -> None:
        portions = {part.number: part.portion() for part in parts}
        records, unfinished = self._read(portions, Limits(PORTION_BYTES, self._end() + 0.5))
        by_number: dict[int, list[Record]] = {}
        for record in records:
            by_number.setdefault(record.partition, []).append(record)
        for part in parts:
            own, complete = by_number.get(part.number, []), part.number not in unfinished
            part.take(portions[part.number], own, complete=complete, most=PORTION_BYTES // len(parts))

    def _end(self) -> float:
        return self._deadline if self.looked else max(self._deadline, self._latest)

    def _look(self, record: Record) -> None:
        self.looked += 1
        self.size += record.size
        self.reached_ms = record.timestamp_ms
        if self._path.wanted(record):
            self.found.append(self._path.keep(record))

    def _head(self, part: _Part) -> tuple[int, int, int]:
        return (self._sign * part.records[0].timestamp_ms, part.number, self.parts.index(part))


def _part(path: Path, number: int, begin: int, end: int) -> _Part:
    at = path.at.get(number)
    if at is not None and path.newest_first:
        end = min(end, max(at, begin))
    elif at is not None:
        begin = max(begin, min(at, end))
    return _Part(number, begin, end, path)


def everything(record: Record) -> bool:
    """Want all records."""
    return True


def all_of(conditions: Iterable[Callable[[Record], bool]]) -> Callable[[Record], bool]:
    """Want the records that fulfil all conditions."""
    listed = tuple(conditions)
    return lambda record: all(condition(record) for condition in listed)
