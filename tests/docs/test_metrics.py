"""Every metric that a page names is in a catalogue, with its type and labels; some code sets every metric of a catalogue."""

import re
from importlib import import_module
from importlib.util import find_spec

import pytest
from prometheus_client import Counter, Gauge, Histogram

from chassis.observability import metrics
from services import SERVICES
from tests.docs.pages import PAGES, ROOT, inline, name

OWN = [f"{service.name}.metrics" for service in SERVICES if find_spec(f"{service.name}.metrics")]
CATALOGUES = (metrics, *map(import_module, OWN))
CATALOGUE = {
    f"{catalogue.__name__}.{constant}": metric
    for catalogue in CATALOGUES
    for constant, metric in vars(catalogue).items()
    if isinstance(metric, Counter | Gauge | Histogram)
}
PREFIXES = "|".join(sorted({metric._name.partition("_")[0] for metric in CATALOGUE.values()}))
NAMED = re.compile(rf"(?<![\w/.-])(?:{PREFIXES})_[a-z_]+(?![\w(/.-])")
LABELLED = re.compile(rf"\b((?:{PREFIXES})_[a-z_]+)\{{([^}}]*)\}}")
GROUPED = re.compile(rf"\b((?:{PREFIXES})_[a-z_]+)[^()]*\)* by \((\w+(?:, *\w+)*)\)")

LABELS = {label for metric in CATALOGUE.values() for label in metric._labelnames}
# Tables, indexes and options that begin like a metric; and secrets.
OTHERS = {"outbox_unsent", "outbox_floor", "db_default"}
SECRETS = ("_secret_key", "_password", "_username", "_url")


def series() -> dict[str, Counter | Gauge | Histogram]:
    """The names under which a metric may be asked for: a counter's ends in _total, a histogram's may have its suffixes."""
    found = {}
    for metric in CATALOGUE.values():
        endings = {Counter: ("_total",), Gauge: ("",), Histogram: ("", "_bucket", "_count", "_sum")}[type(metric)]
        found |= {metric._name + ending: metric for ending in endings}
    return found


def named(page) -> set[str]:
    """The metrics that a page names."""
    words = {word for text in inline(page) for word in NAMED.findall(text)}
    return {word for word in words - OTHERS - LABELS if not word.endswith(SECRETS)}


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
    module, _, own_name = constant.rpartition(".")
    folder = ROOT / "platform/chassis" if module == metrics.__name__ else ROOT / module.partition(".")[0]
    files = folder.rglob("*.py")
    used = re.compile(rf"\b{own_name}\b(?! *=)")
    assert any(used.search(path.read_text()) for path in files), f"nothing sets {constant}"
