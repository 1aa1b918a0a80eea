"""The catalogue of metrics: each is defined once, with the processes that have it, and only those export it.

A chassis module defines metrics in `chassis/observability/metrics.py`, a service in its own `metrics.py`, with `counter`,
`gauge` and `histogram`. Nothing is exported until the process calls `export`, which says what kind of process it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

# The time at which each series was created would double the number of series, and nothing uses it.
disable_created_metrics()  # type: ignore[no-untyped-call]

Process = Literal["gateway", "web", "relay", "consume", "monitor"]
"""The kinds of processes: the gateway, the web process of another service, its workers, and the monitor of the system."""

WORKERS: tuple[Process, ...] = ("relay", "consume")
EVERY: tuple[Process, ...] = ("gateway", "web", "relay", "consume", "monitor")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Buckets for durations."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""Buckets for numbers of events."""

Mode = Literal["livemax", "livemin", "livesum", "livemostrecent", "liveall"]
"""How the values of several web processes are combined: always of those that still run."""


@dataclass(frozen=True)
class Definition:
    """A metric, and the processes that have it."""

    metric: MetricWrapperBase
    processes: tuple[Process, ...]
    needs_database: bool = False
    """Whether only processes of services with a database have it."""

    @property
    def name(self) -> str:
        """The name as it is scraped: a counter's ends in `_total`."""
        name: str = self.metric._name
        return name + "_total" if isinstance(self.metric, Counter) else name


M = TypeVar("M", bound=MetricWrapperBase)

_catalogue: dict[str, Definition] = {}
_exported: set[str] = set()


def definitions() -> Iterator[Definition]:
    """All metrics that have been defined, in the order of their definition."""
    yield from _catalogue.values()


def counter(
    name: str,
    meaning: str,
    labels: Sequence[str] = (),
    *,
    on: Sequence[Process],
    values: Iterable[Sequence[str]] = (),
    needs_database: bool = False,
) -> Counter:
    """Define a counter; it is scraped as `name`_total. `values`: the labels that are known, and so exist at 0 from the start."""
    return _define(Counter(name, meaning, labels, registry=None), on, values, needs_database)


def gauge(
    name: str,
    meaning: str,
    labels: Sequence[str] = (),
    *,
    on: Sequence[Process],
    values: Iterable[Sequence[str]] = (),
    mode: Mode = "livemax",
    needs_database: bool = False,
) -> Gauge:
    """Define a gauge. `mode`: how the values of several web processes on one port are combined."""
    return _define(Gauge(name, meaning, labels, registry=None, multiprocess_mode=mode), on, values, needs_database)


def histogram(
    name: str,
    meaning: str,
    labels: Sequence[str] = (),
    *,
    on: Sequence[Process],
    values: Iterable[Sequence[str]] = (),
    buckets: Sequence[float] = SECONDS,
    needs_database: bool = False,
) -> Histogram:
    """Define a histogram, by default of durations in seconds."""
    return _define(Histogram(name, meaning, labels, registry=None, buckets=buckets), on, values, needs_database)


def _define(metric: M, on: Sequence[Process], values: Iterable[Sequence[str]], needs_database: bool) -> M:
    definition = Definition(metric, tuple(on), needs_database)
    assert definition.name not in _catalogue, f"{definition.name} is defined twice"
    _catalogue[definition.name] = definition
    start_at_zero(metric, *values)
    return metric


def start_at_zero(metric: MetricWrapperBase, *values: Sequence[str]) -> None:
    """Create the time series with these labels, so that `increase()` sees their first event too."""
    for labels in values:
        metric.labels(*labels)


def load(service: str) -> None:
    """Import `metrics.py` of a service, if it has one. Call it before `export`."""
    if find_spec(service) is not None and find_spec(f"{service}.metrics") is not None:
        import_module(f"{service}.metrics")


def export(process: Process, registry: CollectorRegistry = REGISTRY, *, has_database: bool = True) -> None:
    """Export the metrics of this kind of process, and no others. A second call has no effect."""
    for definition in _catalogue.values():
        is_ours = process in definition.processes and (has_database or not definition.needs_database)
        if is_ours and definition.name not in _exported:
            registry.register(definition.metric)
            _exported.add(definition.name)


def hidden() -> set[str]:
    """The metrics that this process has defined but does not export, by the name without `_total`."""
    return {one.metric._name for name, one in _catalogue.items() if name not in _exported}
