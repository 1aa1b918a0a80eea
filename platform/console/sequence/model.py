"""What a diagram consists of. Times are in nanoseconds since the epoch."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lifeline:
    """A vertical line: `kind` is client, process, database, topic or peer (a process that recorded nothing)."""

    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Step:
    """A row: a message between two lifelines, or something in one lifeline if both are the same.

    `kind` is http, sql, outbox, kafka, handler, retry, dead or other, and its colour. `id` is unique in the diagram.
    """

    id: str
    span_id: str
    at: int
    source: Lifeline
    target: Lifeline
    kind: str
    text: str
    failed: bool = False
    is_reply: bool = False
    fold: str = ""
    """The id of the fold that this row stands for; empty if it is one span."""
    parent_id: str = ""
    """The id of the span that caused it."""
    ranks: int = 1
    """The order of rows with the same time."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that lasts, in a lifeline; `is_waiting` if nothing works on it meanwhile. `step_id` is the row that begins it, if any."""

    lifeline: Lifeline
    begun: int
    ended: int
    kind: str
    step_id: str = ""
    failed: bool = False
    is_waiting: bool = False


@dataclass(slots=True)
class Diagram:
    """A diagram. `begun` is the zero of its time axis."""

    begun: int = 0
    ended: int = 0
    lifelines: list[Lifeline] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    folded: int = 0
    """The number of spans that are not shown, since they are like others."""

    def used(self) -> Iterator[Lifeline]:
        """The lifelines of steps and bars, in the order of time, with repetitions."""
        for step in self.steps:
            yield step.source
            yield step.target
        for bar in self.bars:
            yield bar.lifeline


def duration_text(nanoseconds: float) -> str:
    """A duration for people."""
    ms = nanoseconds / 1e6
    if ms < 1:
        return f"{ms:.2f} ms"
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 1_000:
        return f"{ms:.0f} ms"
    seconds = ms / 1_000
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
