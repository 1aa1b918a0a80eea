"""The resulting table: one row per goal, with the ratio to its reference, and a breakdown."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A goal, its measurements and their reference. `met` is None if it could not be measured."""

    what: str
    measured: str
    reference: str
    ratio: float | None
    goal: str
    met: bool | None
    breakdown: list[str] = field(default_factory=list)
    """The parts of the time or the memory, one line each."""


def ratio(measured: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the ratios of each round, whose two values were measured consecutively, under the same load."""
    return statistics.median(ours / theirs for ours, theirs in zip(measured, reference, strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of 100 values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def each(values: Sequence[float], show: Callable[[float], str] = "{:,.0f}".format) -> str:
    """The values of all rounds, in order."""
    return " / ".join(map(show, values))


def markdown(rows: Sequence[Row]) -> str:
    """The table with the breakdowns below it, as Markdown."""
    lines = ["| what | measured | reference in the same run | ratio | goal | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio_text = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = {True: "yes", False: "**no**", None: "not measured"}[row.met]
        lines.append(f"| {row.what} | {row.measured} | {row.reference} | {ratio_text} | {row.goal} | {met} |")
    for row in rows:
        if row.breakdown:
            lines += ["", f"Breakdown of {row.what}:", "", *(f"- {line}" for line in row.breakdown)]
    return "\n".join(lines) + "\n"
