"""The metrics of the gateway's proxy: name, type, labels, unit and meaning. Times are in seconds.

The gateway's own pages are counted by django-prometheus (`django_*`).
"""

from collections.abc import Callable

from chassis.observability.catalogue import counter, gauge, histogram

REQUESTS = counter(
    "gateway_requests",
    "Requests that were forwarded or rejected, by service, method and class of status.",
    ["service", "method", "status"],
    on=("gateway",),
)
"""`status` is the class sent to the client, 2xx to 5xx, or 499 if the client disconnected before the response."""

SECONDS = histogram(
    "gateway_request_seconds",
    "Time from the complete request head to the end of the response.",
    ["service"],
    on=("gateway",),
)

ABORTED = counter(
    "gateway_aborted_answers",
    "Responses aborted after they had started, because the service failed or time ran out.",
    ["service"],
    on=("gateway",),
)

RETRIES = counter(
    "gateway_retries",
    "Requests that were resent after their connection was closed without a response.",
    ["service"],
    on=("gateway",),
)

CONNECT_FAILURES = counter(
    "gateway_connect_failures", "Connections to a replica that were refused or timed out.", ["service"], on=("gateway",)
)

CONNECTIONS_REFUSED = counter(
    "gateway_connections_refused",
    "Connections rejected at the limit, when all others had a request in progress.",
    on=("gateway",),
)

CONNECTIONS_EVICTED = counter(
    "gateway_connections_evicted",
    "Connections waiting for their client that were closed in favour of a new one.",
    on=("gateway",),
)

IN_FLIGHT = gauge("gateway_in_flight", "Requests in progress.", on=("gateway",))

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

Observe = tuple[Callable[[], None], Callable[[float], None]]
_bound: dict[tuple[str, str, int], Observe] = {}


def observe(service: str, method: str, status: int, seconds: float) -> None:
    """Count a request."""
    key = (service, method, status)
    count, time = _bound.get(key) or _bind(key)
    count()
    time(seconds)


def _bind(key: tuple[str, str, int]) -> Observe:
    service, method, status = key
    # Clients can invent methods, which must not create time series.
    label = method if method in METHODS else "other"
    group = "499" if status == 499 else f"{status // 100}xx"
    observers = REQUESTS.labels(service, label, group).inc, SECONDS.labels(service).observe
    if label == method:
        _bound[key] = observers
    return observers
