"""Every metric of the gateway's proxy: name, type, labels, unit and meaning. Times are in seconds.

The gateway's own pages are counted by django-prometheus (`django_*`).
"""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "gateway_requests",
    "Requests that were sent on, or refused, by service, method and class of status.",
    ["service", "method", "status"],
)
"""`status` is 2xx to 5xx as the client saw it; 499 is a client that left before its answer."""

SECONDS = Histogram(
    "gateway_request_seconds",
    "From the request's head in hand to the end of its answer.",
    ["service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

ABORTED = Counter(
    "gateway_aborted_answers", "Answers that ended in the middle, as the service or the time did.", ["service"]
)

RETRIES = Counter(
    "gateway_retries", "Requests sent again as their connection was closed without an answer.", ["service"]
)

CONNECT_FAILURES = Counter(
    "gateway_connect_failures", "Connections to a replica that were refused or timed out.", ["service"]
)

CONNECTIONS_REFUSED = Counter(
    "gateway_connections_refused", "Connections that found no room: all others were waiting for an answer."
)

CONNECTIONS_EVICTED = Counter(
    "gateway_connections_evicted", "Connections that waited for their client, and made room for a new one."
)

IN_FLIGHT = Gauge("gateway_in_flight", "Requests that are under way now.")

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

Observe = tuple[Callable[[], None], Callable[[float], None]]
_bound: dict[tuple[str, str, int], Observe] = {}


def observe(service: str, method: str, status: int, seconds: float) -> None:
    """Count one request."""
    key = (service, method, status)
    count, time = _bound.get(key) or _bind(key)
    count()
    time(seconds)


def _bind(key: tuple[str, str, int]) -> Observe:
    service, method, status = key
    # A client may invent methods, but not time series.
    label = method if method in METHODS else "other"
    group = "499" if status == 499 else f"{status // 100}xx"
    observe = REQUESTS.labels(service, label, group).inc, SECONDS.labels(service).observe
    if label == method:
        _bound[key] = observe
    return observe
