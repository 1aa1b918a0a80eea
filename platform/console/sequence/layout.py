"""Where everything is in the drawing, in pixels: a column per lifeline, a row per step, and one time axis from top to bottom.

Each row has the same least height, so that everything can be read; a longer time between two rows adds to it by its logarithm,
and a long one is written beside the axis. What happens between two rows is placed in proportion.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass

from console.sequence.model import Bar, Diagram, Lifeline

AXIS = 84
"""Width of the time axis."""
COLUMN = 132
RIGHT = 330
"""Room for texts to the right of the last lifeline."""
ROW = 24
TOP = 14
BOTTOM = 28
LONG = 100_000_000
"""A time between two rows, in nanoseconds, that is written beside the axis."""
LEAST_BAR = 5


@dataclass(frozen=True, slots=True)
class Pause:
    """A long time between two rows, in nanoseconds, in the middle between them."""

    y: float
    duration: int


class Layout:
    """The positions of a diagram's parts."""

    def __init__(self, diagram: Diagram) -> None:
        self.diagram = diagram
        self._columns = {
            lifeline: AXIS + COLUMN // 2 + number * COLUMN for number, lifeline in enumerate(diagram.lifelines)
        }
        self._times: list[int] = []
        self._heights: list[float] = []
        self.pauses: list[Pause] = []
        self.row_of: dict[str, float] = {}
        self._place_rows()
        self.width = AXIS + COLUMN * len(diagram.lifelines) + RIGHT
        self.height = round(self._end() + BOTTOM)

    def x(self, lifeline: Lifeline) -> int:
        """The middle of a lifeline."""
        return self._columns[lifeline]

    def span_of(self, bar: Bar) -> tuple[float, float]:
        """Where a bar begins and ends."""
        begun = self.row_of.get(bar.step_id, self.y(bar.begun)) if bar.step_id else self.y(bar.begun)
        # A bar whose row comes later, such as a record that is sent, begins before it.
        begun = min(begun, self.y(bar.begun))
        return begun, max(begun + LEAST_BAR, self.y(bar.ended))

    def y(self, at: int) -> float:
        """Where a time is."""
        if not self._times:
            return TOP
        after = bisect_right(self._times, at)
        if after == 0:
            return TOP
        if after == len(self._times):
            return self._heights[-1] + _extra(at - self._times[-1])
        before = after - 1
        part = (at - self._times[before]) / (self._times[after] - self._times[before])
        return self._heights[before] + part * (self._heights[after] - self._heights[before])

    def _place_rows(self) -> None:
        y, last = float(TOP), self.diagram.begun
        for number, step in enumerate(self.diagram.steps):
            gap = max(0, step.at - last)
            height = ROW + _extra(gap) if number else ROW / 2 + _extra(gap)
            if gap >= LONG:
                self.pauses.append(Pause(y + height / 2, gap))
                height = max(height, 1.8 * ROW)
                self.pauses[-1] = Pause(y + height / 2, gap)
            y += height
            self.row_of[step.id] = y
            if self._times and self._times[-1] == step.at:
                self._heights[-1] = y
            else:
                self._times.append(step.at)
                self._heights.append(y)
            last = max(last, step.at)

    def _end(self) -> float:
        rows = max(self.row_of.values(), default=float(TOP))
        bars = max((self.span_of(bar)[1] for bar in self.diagram.bars), default=float(TOP))
        return max(rows, bars)


def _extra(gap: int) -> float:
    """What a time adds to the height."""
    return 14 * math.log10(1 + gap / 10_000_000)
