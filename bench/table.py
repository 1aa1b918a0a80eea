"""The result: one row a goal, with the ratio to its reference, and where the time goes."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One goal: what was measured, three times, beside what; `reached` is None where it could not be measured."""

    what: str
    measured: str
    reference: str
    ratio: float | None
    reach: str
    reached: bool | None
    where: list[str] = field(default_factory=list)
    """Where the time (or the memory) goes, a line each."""


def ratio(measured: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the rounds' ratios: both of a round were measured one after the other, under the same load."""
    return statistics.median(ours / theirs for ours, theirs in zip(measured, reference, strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of 100 values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def each(values: Sequence[float], show: Callable[[float], str] = "{:,.0f}".format) -> str:
    """The rounds' values, in the order in which they were measured."""
    return " / ".join(map(show, values))


def markdown(rows: Sequence[Row]) -> str:
    """The table, and below it where the time goes; to be pasted into a document."""
    lines = ["| what | measured | reference in the same run | ratio | goal | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        stated = "" if row.ratio is None else f"{row.ratio:.2f}"
        reached = {True: "yes", False: "**no**", None: "not measured"}[row.reached]
        lines.append(f"| {row.what} | {row.measured} | {row.reference} | {stated} | {row.reach} | {reached} |")
    for row in rows:
        if row.where:
            lines += ["", f"Where it goes, {row.what}:", "", *(f"- {line}" for line in row.where)]
    return "\n".join(lines) + "\n"
