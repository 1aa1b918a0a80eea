"""Every metric that a page names is in a catalogue, with its type and labels; some code sets every metric of a catalogue."""

import re

import pytest
from prometheus_client import Counter, Gauge, Histogram

import gateway.metrics
from chassis.observability import metrics
from tests.docs.pages import PAGES, ROOT, inline, name

CATALOGUES = (metrics, gateway.metrics)
CATALOGUE = {
    constant: metric
    for catalogue in CATALOGUES
    for constant, metric in vars(catalogue).items()
    if isinstance(metric, Counter | Gauge | Histogram)
}
PREFIXES = "|".join(sorted({metric._name.partition("_")[0] for metric in CATALOGUE.values()}))
NAMED = re.compile(rf"(?<![\w/.-])(?:{PREFIXES})_[a-z_]+(?![\w(/.-])")
LABELLED = re.compile(rf"\b((?:{PREFIXES})_[a-z_]+)\{{([^}}]*)\}}")
GROUPED = re.compile(rf"\b((?:{PREFIXES})_[a-z_]+)[^()]*\)* by \((\w+(?:, *\w+)*)\)")

# Tables, indexes and secrets that begin like a metric.
OTHERS = {"outbox_unsent", "outbox_floor", "gateway_secret_key", "kafka_sasl_username", "kafka_sasl_password"}


def series() -> dict[str, Counter | Gauge | Histogram]:
    """The names under which a metric may be asked for: a counter's ends in _total, a histogram's may have its suffixes."""
    found = {}
    for metric in CATALOGUE.values():
        endings = {Counter: ("_total",), Gauge: ("",), Histogram: ("", "_bucket", "_count", "_sum")}[type(metric)]
        found |= {metric._name + ending: metric for ending in endings}
    return found


def named(page) -> set[str]:
    """The metrics that a page names."""
    return {word for text in inline(page) for word in NAMED.findall(text)} - OTHERS


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_metrics_of_a_page_are_in_the_catalogue(page):
    assert named(page) <= series().keys(), named(page) - series().keys()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_labels_of_a_page_are_those_of_the_metric(page):
    for text in inline(page):
        for metric, selector in LABELLED.findall(text):
            assert set(re.findall(r"(\w+) *[=!]", selector)) <= set(series()[metric]._labelnames), text
        for metric, labels in GROUPED.findall(text):
            assert set(re.findall(r"\w+", labels)) <= set(series()[metric]._labelnames), text


def test_the_runbook_names_the_metrics_of_alerts():
    runbook = named(ROOT / "docs" / "runbook.md")
    assert {"outbox_pending", "outbox_oldest_age_seconds", "outbox_parked", "events_consumer_lag"} <= runbook
    assert len(runbook) > 20


@pytest.mark.parametrize("constant", CATALOGUE)
def test_every_metric_is_set_somewhere(constant):
    """Some code besides its definition uses it."""
    files = [path for folder in ("platform/chassis", "gateway") for path in (ROOT / folder).rglob("*.py")]
    used = re.compile(rf"\b{constant}\b(?! *=)")
    assert any(used.search(path.read_text()) for path in files), f"nothing sets {constant}"
