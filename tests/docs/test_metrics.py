"""Every metric that a page, an alert rule or a dashboard names is in the catalogue, with its type and labels; some code sets
every metric of the catalogue.
"""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from settings import metrics_table
from tests.docs.pages import PAGES, ROOT, inline, name

MODULES = metrics_table.modules().values()
CATALOGUE = {
    constant: metric
    for module in MODULES
    for constant, metric in vars(module).items()
    if isinstance(metric, Counter | Gauge | Histogram)
}
SERIES = metrics_table.series()
HISTOGRAMS = {series.removesuffix("_bucket") for series in SERIES if series.endswith("_bucket")}
LABELS = {label for labels in SERIES.values() for label in labels}
SCRAPED = {"service", "process", "instance", "job"}
"""Labels that Prometheus adds."""

PREFIXES = "|".join(sorted({metric._name.partition("_")[0] for metric in CATALOGUE.values()}))
NAMED = re.compile(rf"(?<![\w/.:-])(?:{PREFIXES})_[a-z_]+(?![\w(/.:-])")
LABELLED = re.compile(rf"\b((?:{PREFIXES})_[a-z_]+)\{{([^}}]*)\}}")
GROUPED = re.compile(rf"\b((?:{PREFIXES})_[a-z_]+)[^()]*\)* by \((\w+(?:, *\w+)*)\)")

# Tables, indexes and options that begin like a metric; and secrets.
OTHERS = {"outbox_unsent", "outbox_floor", "db_default"}
SECRETS = ("_secret_key", "_password", "_username", "_url")


def labels(metric: str) -> set[str]:
    """The labels by which a metric can be selected."""
    return set(SERIES.get(metric) or SERIES.get(f"{metric}_bucket") or ()) | SCRAPED


def named(page) -> set[str]:
    """The metrics that a page names."""
    words = {word for text in inline(page) for word in NAMED.findall(text)}
    return {word for word in words - OTHERS - LABELS if not word.endswith(SECRETS)}


def test_the_page_matches_the_catalogue():
    expected = metrics_table.page()
    assert metrics_table.PAGE.read_text(encoding="utf-8") == expected, "run: python -m settings.metrics_table --write"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_metrics_of_a_page_are_in_the_catalogue(page):
    known = SERIES.keys() | HISTOGRAMS
    assert named(page) <= known, named(page) - known


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_labels_of_a_page_are_those_of_the_metric(page):
    for text in inline(page):
        for metric, selector in LABELLED.findall(text):
            assert set(re.findall(r"(\w+) *[=!]", selector)) <= labels(metric), text
        for metric, grouped in GROUPED.findall(text):
            assert set(re.findall(r"\w+", grouped)) <= labels(metric), text


def test_the_runbook_names_the_metrics_of_alerts():
    runbook = named(ROOT / "docs" / "runbook.md")
    assert {"outbox_pending", "outbox_oldest_age_seconds", "outbox_parked", "events_consumer_lag"} <= runbook
    assert len(runbook) > 20


@pytest.mark.parametrize("constant", CATALOGUE)
def test_every_metric_is_set_somewhere(constant):
    """Some code besides its definition uses it."""
    folders = ("platform/chassis", "settings", *metrics_table.NAMES)
    used = re.compile(rf"\b{constant}\b(?! *=)")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert any(used.search(path.read_text()) for path in files), f"nothing sets {constant}"


# --- rules and dashboards ---

WORD = re.compile(r"(?<![\w:.$])[a-zA-Z_][\w:]*")
TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"([a-z_:]+)?\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
DURATION = re.compile(r"\[[^\]]*\]|\b\d+(?:\.\d+)?(?:[smhdwy]|e-?\d+)?\b|\boffset\s+\w+")
WORDS = {"and", "or", "unless", "bool", "by", "without", "on", "ignoring", "group_left", "group_right", "inf", "nan"}


def expressions(text: str, kind: str) -> Iterator[str]:
    """The expressions of a file of rules or of a dashboard."""

    def find(part: object) -> Iterator[str]:
        if isinstance(part, list):
            for one in part:
                yield from find(one)
        elif isinstance(part, dict):
            yield from (value for key, value in part.items() if key == "expr" and isinstance(value, str))
            for one in part.values():
                yield from find(one)

    return find(json.loads(text) if kind == ".json" else yaml.safe_load(text))


def selected(expression: str) -> set[str]:
    """The series that an expression selects, other than those that a rule records (`level:metric:operations`)."""
    bare = GROUPING.sub(" ", DURATION.sub(" ", SELECTOR.sub(r"\1 ", TEXT.sub('""', expression))))
    calls = set(re.findall(r"([a-zA-Z_]\w*)\s*\(", bare))
    return {word for word in WORD.findall(bare) if ":" not in word} - calls - WORDS - {word.upper() for word in WORDS}


def problems(expression: str) -> Iterator[str]:
    """The names in an expression that no process serves."""
    plain = TEXT.sub('""', expression)
    for series in selected(expression) - SERIES.keys() - {"up", "ALERTS", "scrape_duration_seconds"}:
        yield f"{series} is not in the catalogue"
    for series, selector in SELECTOR.findall(plain):
        if series in SERIES:
            yield from (
                f"{series} has no label {label}"
                for label in re.findall(r"(\w+)\s*[=!]", selector)
                if label not in labels(series)
            )
    for grouped in GROUPING.findall(plain):
        yield from (
            f"no metric has the label {label}" for label in re.findall(r"\w+", grouped) if label not in LABELS | SCRAPED
        )


FILES = sorted([*(ROOT / "docker").glob("prometheus/**/*.yml"), *(ROOT / "docker").glob("grafana/**/*.json")])


@pytest.mark.parametrize("file", FILES, ids=name)
def test_rules_and_dashboards_select_what_is_served(file):
    for expression in expressions(file.read_text(), file.suffix):
        assert not list(problems(expression)), expression


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up == 0", []),
        (
            'sum by (service) (rate(http_server_request_duration_seconds_count{http_response_status_code=~"5.."}[5m])) > 0.1',
            [],
        ),
        ("histogram_quantile(0.99, sum by (le) (rate(http_server_queue_seconds_bucket[5m])))", []),
        ("service:errors:ratio_5m > 14.4 * 0.001 and on (service) outbox_pending offset 1h > 1e3", []),
        ('max(outbox_pending{service="$service"}) without (instance) or vector(0)', []),
        ("time() - loop_last_turn_timestamp_seconds > 60", []),
        ("outbox_pendin > 0", ["outbox_pendin is not in the catalogue"]),
        ("http_server_queue_seconds > 0", ["http_server_queue_seconds is not in the catalogue"]),
        ('outbox_pending{topic="x"} > 0', ["outbox_pending has no label topic"]),
        ("sum by (tropic) (events_held)", ["no metric has the label tropic"]),
    ],
)
def test_what_is_not_served_is_found(expression, expected):
    assert list(problems(expression)) == expected
