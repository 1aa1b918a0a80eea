"""The guard compares ratios with the recorded ones, and measures twice what is worse."""

from pathlib import Path

import pytest

from bench import goals, guard
from bench.table import Row, markdown

FASTER, SMALLER = "≥ 0.3", "p50 ≤ 2"


def row(what: str, ratio: float | None, goal: str = FASTER) -> Row:
    return Row(what, "1 / 2", "3", ratio, goal, True)


DOCUMENT = "# Benchmarks\n\n" + markdown([row("a", 0.5), row("b", 2.0, SMALLER), row("c", None)])


def test_the_rows_of_the_recorded_table_have_different_names():
    document = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    rows = [line for line in document.splitlines() if line.count(" | ") == 5]
    assert len(guard.recorded(document)) >= 8
    assert len({row.partition(" | ")[0] for row in rows}) == len(rows)


def test_what_is_recorded_is_the_table_that_bench_writes():
    assert guard.recorded(DOCUMENT) == {"a": 0.5, "b": 2.0}


@pytest.mark.parametrize(
    ("found", "is_worse"),
    [
        (row("a", 0.5), False),
        (row("a", 0.31), False),
        (row("a", 0.29), True),
        (row("a", 5.0), False),
        (row("b", 2.0, SMALLER), False),
        (row("b", 3.2, SMALLER), False),
        (row("b", 3.4, SMALLER), True),
        (row("b", 0.1, SMALLER), False),
        (row("c", None), False),
        (row("new", 1.0), True),
    ],
)
def test_a_regression(found, is_worse):
    assert [line.partition(":")[0] for line in guard.regressions([found], guard.recorded(DOCUMENT))] == (
        [found.what] if is_worse else []
    )


class Measured:
    """Measurements that return these ratios of `a`, one after the other."""

    def __init__(self, *ratios: float) -> None:
        self.ratios = [*ratios]
        self.asked: list[list[str]] = []

    def __call__(self, names):
        self.asked.append([*names])
        return {name: [row("a", self.ratios.pop(0))] if name == "drain" else [row("b", 2.0, SMALLER)] for name in names}


def test_a_coincidence_is_measured_again_and_forgotten():
    measured = Measured(0.1, 0.5)
    assert guard.check(measured, DOCUMENT) == []
    assert measured.asked == [[*guard.LINES], ["drain"]]


def test_a_regression_that_stays_is_named():
    measured = Measured(0.1, 0.2, 0.15)
    [line] = guard.check(measured, DOCUMENT)
    assert line.startswith("a: 0.20, recorded are 0.50")
    assert measured.asked == [[*guard.LINES], ["drain"], ["drain"]]


def test_it_measures_what_bench_measures():
    assert set(guard.LINES) <= {"gateway", *goals.SYSTEM}
