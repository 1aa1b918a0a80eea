"""What the metrics of each process were in the last seconds, for rates and percentiles; only those that the map needs."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass

from console.sources.processes import Labels, Snapshot

SECONDS = 12.0
"""How long samples are kept."""
RATE_SECONDS = 3.0
"""Over how long a rate is the average, so that one request can be read."""
P95_SECONDS = 10.0

REQUESTS = "http_server_request_duration_seconds"
OUTBOX_DELAY = "outbox_delay_seconds"
EVENTS_DELAY = "events_delay_seconds"
WRITTEN = "outbox_written_total"
PUBLISHED = "outbox_published_total"
CONSUMED = "events_consumed_total"
DUPLICATES = "events_duplicate_total"

COUNTERS = {
    f"{REQUESTS}_count": "http_route",
    WRITTEN: "topic",
    PUBLISHED: "topic",
    CONSUMED: "topic",
    DUPLICATES: "topic",
}
"""The counters, with the label by which each is kept."""
HISTOGRAMS = (REQUESTS, OUTBOX_DELAY, EVENTS_DELAY)
OWN_ROUTES = ("/asyncapi", "/schema", "/staff")
"""The beginnings of the routes that the console itself reads; its requests are not shown as traffic."""
ERRORS = "5xx"
"""The counter of requests that failed, which is made from the status in `http_server_request_duration_seconds_count`."""

Buckets = dict[float, float]
"""Numbers of observations by their upper bounds in seconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The values of a process at a time, in seconds since the epoch."""

    at: float
    counts: Mapping[tuple[str, str], float]
    buckets: Mapping[str, Buckets]


def sample(snapshot: Snapshot) -> Sample:
    """The values in a snapshot that the map needs."""
    counts: dict[tuple[str, str], float] = defaultdict(float)
    for metric, label in COUNTERS.items():
        for labels, value in snapshot.metrics.get(metric, {}).items():
            if label == "http_route" and _label(labels, label).startswith(OWN_ROUTES):
                continue
            counts[metric, _label(labels, label)] += value
            if _label(labels, "http_response_status_code").startswith("5"):
                counts[ERRORS, ""] += value
    buckets: dict[str, Buckets] = {}
    for metric in HISTOGRAMS:
        for labels, value in snapshot.metrics.get(f"{metric}_bucket", {}).items():
            if metric == REQUESTS and _label(labels, "http_route").startswith(OWN_ROUTES):
                continue
            own = buckets.setdefault(metric, defaultdict(float))
            own[float(_label(labels, "le"))] += value
    return Sample(snapshot.at, counts, buckets)


def _label(labels: Labels, name: str) -> str:
    return next((value for key, value in labels if key == name), "")


class History:
    """The samples of all processes. A process that does not respond has no rates."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = defaultdict(deque)

    def add(self, snapshot: Snapshot) -> None:
        """Note a snapshot; the samples from before a restart are dropped, since counters start again at 0."""
        known = self._samples[snapshot.process.name]
        if not snapshot.metrics or snapshot.status in {"down", "unknown"}:
            known.clear()
            return
        new = sample(snapshot)
        if known and known[-1].at == new.at:
            return
        if known and any(new.counts.get(key, 0.0) < value for key, value in known[-1].counts.items()):
            known.clear()
        known.append(new)
        while known[0].at < new.at - SECONDS:
            known.popleft()

    def rate(self, process: str, metric: str, label: str | None = None) -> float:
        """The increase of a counter per second; that of all labels if none is given."""
        return self._increase(process, metric, label, RATE_SECONDS, per_second=True)

    def moved(self, process: str, metric: str, label: str | None = None) -> float:
        """The increase of a counter since the sample before."""
        return self._increase(process, metric, label, 0.0, per_second=False)

    def p95(self, process: str, metric: str) -> float | None:
        """The 95th percentile of a histogram in seconds, or None without observations; infinite beyond its last bound."""
        first, last = self._span(process, P95_SECONDS)
        if first is None or last is None:
            return None
        before, after = first.buckets.get(metric, {}), last.buckets.get(metric, {})
        return percentile(0.95, {bound: count - before.get(bound, 0.0) for bound, count in after.items()})

    def _increase(self, process: str, metric: str, label: str | None, seconds: float, *, per_second: bool) -> float:
        first, last = self._span(process, seconds)
        if first is None or last is None:
            return 0.0
        grown = sum(
            value - first.counts.get(key, 0.0)
            for key, value in last.counts.items()
            if key[0] == metric and label in {None, key[1]}
        )
        return max(0.0, grown) / (last.at - first.at if per_second else 1.0)

    def _span(self, process: str, seconds: float) -> tuple[Sample | None, Sample | None]:
        """The last sample and the one that is about so many seconds older, at least the one before."""
        known = self._samples[process]
        if len(known) < 2:
            return None, None
        last = known[-1]
        older = [one for one in known if one.at <= last.at - seconds and one is not last]
        return (older[-1] if older else known[0]), last


def percentile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The percentile of cumulative buckets, interpolated within its bucket as Prometheus does."""
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank, lower, below = share * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            within = buckets[bound] - below
            return bound if bound == float("inf") or within <= 0 else lower + (bound - lower) * (rank - below) / within
        lower, below = bound, buckets[bound]
    return bounds[-1]
