"""The processes of the system: their addresses, health and metrics, polled in the background."""

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from console.sources.http import Client, NoAnswer
from services import SERVICES, Service

WATCHED_SECONDS = 1.0
"""Interval of polls while a page shows them."""
UNWATCHED_SECONDS = 15.0
"""Interval of polls otherwise, of health only: without an open page it must cost next to nothing."""
WATCH_LASTS_SECONDS = 5.0
TIMEOUT_SECONDS = 1.8

Labels = tuple[tuple[str, str], ...]
"""The labels of a time series, sorted by name."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process: `kind` is gateway, web, relay, consume or monitor. `health_url` serves health and metrics."""

    name: str
    service: str
    kind: str
    url: str
    health_url: str


@dataclass(frozen=True, slots=True)
class Part:
    """What a process reports of one of its dependencies: `up`, `degraded` or `down`, and why."""

    name: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a process when it was last polled; `at` and `since` in seconds since the epoch."""

    process: Process
    at: float = 0.0
    status: str = "unknown"
    """`ready`, `degraded`, `unavailable`, `down` (no response), or `unknown` until the first poll."""
    since: float = 0.0
    """Since when it has this status."""
    reason: str = ""
    parts: tuple[Part, ...] = ()
    metrics: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)
    """The values by the name of the metric and its labels; of histograms `_bucket`, `_sum` and `_count`. Empty if not polled."""
    previous: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)
    """The values of the poll before, for rates."""
    seconds: float = 0.0
    """The time between these two polls."""

    def value(self, name: str, **labels: str) -> float:
        """The sum of the time series of a metric that have these labels; 0 if there are none."""
        return _sum(self.metrics.get(name, {}), labels)

    def rate(self, name: str, **labels: str) -> float:
        """The increase of a counter per second since the poll before; 0 if it is not known."""
        if not self.seconds or name not in self.previous:
            return 0.0
        return max(0.0, _sum(self.metrics.get(name, {}), labels) - _sum(self.previous[name], labels)) / self.seconds


def _sum(series: Mapping[Labels, float], labels: Mapping[str, str]) -> float:
    wanted = set(labels.items())
    return sum(value for own, value in series.items() if wanted <= set(own))


def declared(services: Iterable[Service] = SERVICES) -> tuple[Process, ...]:
    """The processes of the declarations, on their usual ports of this machine."""
    found = []
    for service in services:
        for kind in service.processes():
            name = service.name if kind == "web" else f"{service.name}-{kind}"
            url = f"http://127.0.0.1:{service.port_of(kind)}"
            found.append(Process(name, service.name, "gateway" if service.edge else kind, url, url))
    return tuple(found)


def configured(text: str) -> tuple[Process, ...]:
    """The processes of CONSOLE_PROCESSES; those of the declarations if it is empty. Raises ImproperlyConfigured."""
    if not text:
        return declared()
    try:
        return tuple(
            Process(one["name"], one["service"], one["kind"], one["url"], one.get("health_url") or one["url"])
            for one in json.loads(text)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImproperlyConfigured(f"CONSOLE_PROCESSES is not a list of processes: {error!r}") from None


class Processes:
    """Polls all processes. `snapshots` is what a page shows; `watch` makes the polls more frequent for a while."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self.all = tuple(processes)
        self._clients = {process.name: Client(process.health_url, timeout=TIMEOUT_SECONDS) for process in self.all}
        self._snapshots = {process.name: Snapshot(process) for process in self.all}
        self._changed = threading.Condition()
        self._polls = 0
        self._watched_until = 0.0
        self._wake = threading.Event()

    def run(self, ended: threading.Event) -> None:
        """Poll until `ended` is set."""
        with ThreadPoolExecutor(max(1, len(self.all)), thread_name_prefix="poll") as pool:
            while not ended.is_set():
                begun = time.monotonic()
                watched = begun < self._watched_until
                list(pool.map(partial(self._poll, with_metrics=watched), self.all))
                with self._changed:
                    self._polls += 1
                    self._changed.notify_all()
                left = begun + (WATCHED_SECONDS if watched else UNWATCHED_SECONDS) - time.monotonic()
                self._wake.wait(max(0.05, left))
                self._wake.clear()

    def watch(self) -> None:
        """Poll metrics and health every second, for the next WATCH_LASTS_SECONDS. Call it while a page shows them."""
        is_new = time.monotonic() >= self._watched_until
        self._watched_until = time.monotonic() + WATCH_LASTS_SECONDS
        if is_new:
            self._wake.set()

    def stop(self) -> None:
        """Wake the thread, and those who wait for a poll, so that they notice the end."""
        self._wake.set()
        with self._changed:
            self._polls += 1
            self._changed.notify_all()

    def wait(self, after: int, seconds: float) -> int:
        """Wait until the poll after the one of this number has ended, at most so long. Returns the number of the last poll."""
        with self._changed:
            self._changed.wait_for(lambda: self._polls > after, seconds)
            return self._polls

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """The present state of each process, in the order of the declarations."""
        return tuple(self._snapshots[process.name] for process in self.all)

    def snapshot(self, name: str) -> Snapshot | None:
        """The state of one process."""
        return self._snapshots.get(name)

    def web_of(self, service: str) -> Process | None:
        """The web process of a service."""
        return next((one for one in self.all if one.service == service and one.kind in {"web", "gateway"}), None)

    def _poll(self, process: Process, *, with_metrics: bool) -> None:
        before, client, now = self._snapshots[process.name], self._clients[process.name], time.time()
        try:
            status, reason, parts = _health(client.request("GET", "/health/ready").json())
            metrics = parse(client.request("GET", "/metrics").body.decode("utf-8", "replace")) if with_metrics else {}
        except NoAnswer as error:
            status, reason, parts, metrics = "down", str(error), (), {}
        self._snapshots[process.name] = Snapshot(
            process=process,
            at=now,
            status=status,
            since=before.since if status == before.status else now,
            reason=reason,
            parts=parts,
            metrics=metrics,
            previous=before.metrics,
            seconds=now - before.at if before.metrics and metrics else 0.0,
        )


def _health(body: Any) -> tuple[str, str, tuple[Part, ...]]:
    if not isinstance(body, dict) or not isinstance(body.get("parts"), dict):
        raise NoAnswer("is not a process of this system: it has no /health/ready")
    parts = tuple(
        Part(name, str(part.get("status", "")), str(part.get("reason", ""))) for name, part in body["parts"].items()
    )
    reasons = [f"{part.name}: {part.reason or part.status}" for part in parts if part.status != "up"]
    return str(body.get("status", "unknown")), "; ".join(reasons), parts


_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([-+0-9.eEInfNa]+)(?: [0-9.]+)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def parse(text: str) -> dict[str, dict[Labels, float]]:
    """The time series of a scrape in Prometheus's text format, without those of Python itself."""
    found: dict[str, dict[Labels, float]] = {}
    for line in text.splitlines():
        if line.startswith(("#", "python_")):
            continue
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        labels = tuple(sorted(_LABEL.findall(sample[2]))) if sample[2] else ()
        found.setdefault(sample[1], {})[labels] = float(sample[3])
    return found
