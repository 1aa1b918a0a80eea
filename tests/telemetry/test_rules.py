"""The rules of Prometheus: correct, each alert tested by promtool, with a severity, a summary and a section of the runbook."""

import re
from collections import Counter

import pytest
import yaml

from tests.docs.pages import ROOT
from tests.telemetry.prometheus import PROGRAM, RULES, promtool, scaled

FOLDER = ROOT / "docker" / "prometheus"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ALERTS = {
    rule["alert"]: rule
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
needs_promtool = pytest.mark.skipif(PROGRAM is None, reason="needs promtool: install prometheus")


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


ANCHORS = {slug(heading) for heading in re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)}


@needs_promtool
def test_rules_are_valid():
    done = promtool("check", "rules", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_alerts_are_silent_fire_and_resolve(path):
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested():
    tested: Counter[str] = Counter()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            alert = case["name"].partition(",")[0]
            silent, fires, resolved = (bool(one["exp_samples"]) for one in case["promql_expr_test"])
            assert (silent, fires, resolved) == (False, True, False), case["name"]
            assert all(f'"{alert}"' in one["expr"] for one in case["promql_expr_test"])
            tested[alert] += 1
    assert set(tested) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do(name):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(rule["annotations"]["summary"]) > 40
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/runbook.md"
    assert anchor in ANCHORS
    assert f"`{name}`" in RUNBOOK, "the runbook's table names it"


@pytest.mark.parametrize("name", ALERTS)
def test_a_summary_uses_only_labels_that_its_expression_keeps(name):
    """A label that an aggregation has removed would be empty in the message."""
    rule = ALERTS[name]
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    kept = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
    if kept:
        assert used <= {label.strip() for group in kept for label in group.split(",")}
    elif re.match(r"(max|min|sum|count)\(|absent\(", rule["expr"]):
        assert not used


def test_scaling_changes_durations_only():
    """The drill of alerts divides the windows; names, thresholds and everything else stay."""
    rule = "expr: slo:errors:ratio_rate5m > 30 and x[1h] offset 15m\nfor: 2m\n"
    assert scaled(rule, 60) == "expr: slo:errors:ratio_rate5m > 30 and x[60000ms] offset 15000ms\nfor: 2000ms\n"
