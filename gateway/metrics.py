"""The metrics of the gateway alone: name, type, labels, unit and meaning. Times are in seconds.

Its requests are counted as those of every service are, in `http_server_request_duration_seconds`.
"""

from collections.abc import Callable
from itertools import product

from chassis.observability.catalogue import counter, gauge, histogram, start_at_zero
from chassis.observability.metrics import HTTP_REQUEST_SECONDS
from gateway import routes
from gateway.problems import Reason

_UPSTREAMS = [(name,) for name in routes.SERVICE_NAMES]

UPSTREAM_SECONDS = histogram(
    "gateway_upstream_seconds",
    "Time from sending a request to a replica to the head of its response, or until the gateway gave up.",
    ["upstream", "replica"],
    on=("gateway",),
)

ERRORS = counter(
    "gateway_errors",
    "Responses that the gateway itself made because a request was not acceptable or its service did not respond.",
    ["reason"],
    on=("gateway",),
    # A response to a slow client is aborted, not replaced.
    values=[(reason,) for reason in Reason if reason is not Reason.SLOW_CLIENT],
)
"""Includes connections and data that were rejected before they were a request, which no other metric counts."""

CLIENT_DISCONNECTS = counter(
    "gateway_client_disconnects",
    "Requests whose client disconnected before the response was complete.",
    on=("gateway",),
)

ABORTED = counter(
    "gateway_aborted_answers",
    "Responses aborted after they had started, because the service failed or time ran out.",
    ["upstream"],
    on=("gateway",),
    values=_UPSTREAMS,
)

RETRIES = counter(
    "gateway_retries",
    "Requests that were resent after their connection was closed without a response.",
    ["upstream"],
    on=("gateway",),
    values=_UPSTREAMS,
)

CONNECT_FAILURES = counter(
    "gateway_connect_failures",
    "Connections to a replica that were refused or timed out.",
    ["upstream"],
    on=("gateway",),
    values=_UPSTREAMS,
)

CONNECTIONS = gauge("gateway_connections", "Open connections of clients, including idle ones.", on=("gateway",))

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

EVENT_LOOP_LAG = gauge(
    "gateway_event_loop_lag_seconds",
    "How late a timer of the event loop was at worst in the last 15 to 30 seconds; requests waited as long.",
    on=("gateway",),
)

FAILURES = tuple(product(("GET", "POST"), (route.label for route in routes.ROUTES), ("500", "502", "503", "504")))
"""Method, route and status of requests whose first failure `increase()` should see too."""

Observe = Callable[[float], None]
_bound: dict[tuple[str, str, int], Observe] = {}


def start() -> None:
    """Create the time series of failures that are not declared with their metric."""
    start_at_zero(HTTP_REQUEST_SECONDS, *FAILURES)


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request. `method` is one of the known ones or `_OTHER`, and `route` one of the gateway's.

    So the number of time series is limited, and looking them up by their values is fast.
    """
    key = (method, route, status)
    (_bound.get(key) or _bind(key))(seconds)


def _bind(key: tuple[str, str, int]) -> Observe:
    method, route, status = key
    _bound[key] = HTTP_REQUEST_SECONDS.labels(method, route, str(status)).observe
    return _bound[key]


def count_error(reason: Reason) -> None:
    """Count a response that the gateway itself made."""
    ERRORS.labels(reason).inc()
