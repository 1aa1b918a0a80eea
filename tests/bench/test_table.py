import subprocess
import sys
from pathlib import Path

import pytest

from bench.table import Row, each, markdown, percentile, ratio

ROOT = Path(__file__).resolve().parents[2]


class TestRatio:
    def test_it_is_the_median_of_the_rounds_ratios(self):
        assert ratio([100, 50, 90], [10, 10, 30]) == 5

    def test_it_is_not_the_ratio_of_the_medians(self):
        # In the third round the machine was busy, which fell on both.
        assert ratio([10, 20, 90], [1, 2, 30]) == 10

    def test_each_round_has_its_reference(self):
        with pytest.raises(ValueError, match="zip"):
            ratio([1, 2], [1])


class TestPercentile:
    @pytest.mark.parametrize(
        ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.1, 100), (100, 100)]
    )
    def test_of_a_hundred(self, percent, expected):
        assert percentile(list(range(100, 0, -1)), percent) == expected

    def test_of_one(self):
        assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


class TestMarkdown:
    def test_each_goal_is_a_row_with_its_ratio_and_result(self):
        rows = [
            Row("a", "1 / 2 / 3", "4", 0.314, "≥ 0.2", True),
            Row("b", "50 ms", "10 ms", 5.0, "≤ 40 ms", False),
            Row("c", "`apt install nginx`", "", None, "≥ 0.2", None),
        ]
        head, line, *body = markdown(rows).splitlines()
        assert head.count("|") == line.count("|") == 7
        assert body == [
            "| a | 1 / 2 / 3 | 4 | 0.31 | ≥ 0.2 | yes |",
            "| b | 50 ms | 10 ms | 5.00 | ≤ 40 ms | **no** |",
            "| c | `apt install nginx` |  |  | ≥ 0.2 | not measured |",
        ]

    def test_the_breakdown_follows(self):
        text = markdown([Row("a", "", "", None, "", False, ["3 ms here", "4 ms there"])])
        assert text.endswith("\nBreakdown of a:\n\n- 3 ms here\n- 4 ms there\n")

    def test_the_rounds_are_in_order(self):
        assert each([1234.4, 0.6]) == "1,234 / 1"


def test_make_bench_has_a_help_text():
    said = subprocess.run(
        [sys.executable, "-m", "bench", "--help"],
        cwd=ROOT,
        check=False,
        env={"PYTHONPATH": "platform"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert "{gateway,stalled,reads,writes,story,drain,relay,payments,memory,tracing,console}" in said.stdout


def test_the_gateways_row_names_missing_programs(monkeypatch):
    from bench import gateway

    monkeypatch.setenv("PATH", "")
    (row,) = gateway.measure()
    assert row.measured == "not measured: `apt install nginx wrk`, missing on this machine"
    assert row.met is None
