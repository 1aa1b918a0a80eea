"""The guard of `.ci/run`: a ratio that is much worse than the recorded one fails, whatever the speed of the machine.

What is recorded is the table of docs/benchmarks.md, which `make bench ARGS=--write` writes.
"""

from collections.abc import Callable, Sequence

from bench.table import Row

WORST = 0.6
"""A ratio may be worse than the recorded one by this factor: rounds on a shared machine differ by less."""
TIMES = 3
"""How often a line with a regression is measured. A row counts with its best ratio: other programs can only make it worse."""
LINES = ("gateway", "reads", "relay", "drain", "payments")
"""What the guard measures, once: the lines that are limited by our code, and need no quiet machine."""


def recorded(document: str) -> dict[str, float]:
    """The ratio of each row of the table, by its first column. Rows without a ratio are left out."""
    found = {}
    for line in document.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 6 and _is_number(cells[3]):
            found[cells[0]] = float(cells[3])
    return found


def regressions(rows: Sequence[Row], known: dict[str, float]) -> list[str]:
    """A line for each row whose ratio is worse than WORST of the recorded one, or which is not recorded."""
    found = []
    for row in rows:
        if row.ratio is None:
            continue
        if row.what not in known:
            found.append(f"{row.what}: not recorded; run `make bench ARGS=--write` on a machine at rest")
        elif _is_worse(row, known[row.what]):
            found.append(f"{row.what}: {row.ratio:.2f}, recorded are {known[row.what]:.2f} ({row.goal})")
    return found


def check(measure: Callable[[Sequence[str]], dict[str, list[Row]]], document: str) -> list[str]:
    """Measure LINES, and up to TIMES those with a regression: what is never better is no coincidence. Returns a line for each."""
    known = recorded(document)
    suspects: Sequence[str] = LINES
    best: dict[str, dict[str, Row]] = {name: {} for name in LINES}
    for _ in range(TIMES):
        for name, rows in measure(suspects).items():
            for row in rows:
                before = best[name].get(row.what)
                best[name][row.what] = row if before is None else _better(before, row)
        found = {name: regressions([*rows.values()], known) for name, rows in best.items()}
        suspects = [name for name, lines in found.items() if lines]
        if not suspects:
            break
    return [line for lines in found.values() for line in lines]


def _better(one: Row, other: Row) -> Row:
    if one.ratio is None or other.ratio is None:
        return one
    return min(one, other, key=lambda row: row.ratio * (1 if "≤" in row.goal else -1))


def _is_worse(row: Row, known: float) -> bool:
    assert row.ratio is not None
    if "≤" in row.goal:
        return row.ratio > known / WORST
    return row.ratio < known * WORST


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
