"""Routes each request to the proxy or to Django's pages, and rejects what neither of them accepts."""

import re
from urllib.parse import unquote_to_bytes

from django.conf import settings

from chassis.http.forwarded import Proxies
from chassis.observability.metrics import HTTP_ACTIVE_REQUESTS
from chassis.observability.middleware import OTHER
from gateway import headers, metrics, routes, trace
from gateway.access import AccessLog, Rejected
from gateway.call import Call
from gateway.pages import Django, Pages, options
from gateway.problems import Reason, Refused
from gateway.proxy import Proxy
from gateway.upstream import Upstream
from gateway.watch import Watch

METHOD = re.compile(r"[A-Z]{3,16}(?:-[A-Z]{1,16})?")
"""Methods that are forwarded to services; gunicorn accepts no others."""

STANDARD_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

INTERNAL = frozenset({b"/metrics", b"/health/ready"})
"""Paths that are served on the internal port alone, if there is one."""


class Gateway:
    """Selects the handler of each call. `django` is the ASGI application of the gateway's own pages."""

    def __init__(self, django: Django, watch: Watch) -> None:
        self._log = AccessLog(
            service=settings.SERVICE_NAME, level=settings.LOG_LEVEL, as_json=settings.LOG_FORMAT == "json"
        )
        self._forwarding = headers.Forwarding(
            allowed_hosts=settings.ALLOWED_HOSTS, proxies=Proxies(settings.TRUSTED_PROXIES), prefix=routes.PREFIX
        )
        connect_timeout = settings.GATEWAY_CONNECT_TIMEOUT_SECONDS
        self._proxy = Proxy(
            {
                service: Upstream(service, urls, connect_timeout=connect_timeout)
                for service, urls in service_urls().items()
            },
            self._forwarding,
            watch,
            self._log,
            max_body=settings.GATEWAY_MAX_BODY_BYTES,
        )
        self._pages = Pages(django, watch, self._log)
        HTTP_ACTIVE_REQUESTS.set_function(lambda: self._proxy.in_flight + self._pages.in_flight)
        self._hides_internal = bool(settings.GATEWAY_INTERNAL_PORT)
        self._default_host = default_host(settings.ALLOWED_HOSTS)

    def accept(self, call: Call) -> None:
        """See `edge.listening.Application`."""
        head = call.head
        call.handler = self._pages
        call.header = headers.read(head.fields)
        call.request_id = call.header.request_id()
        head.interpret()
        if head.host is None:
            head.host = self._default_host
        if head.method not in STANDARD_METHODS:
            _check_method(head.method)
        if call.header.content_types > 1:
            raise Refused(400, "There is more than one Content-Type.", reason=Reason.INVALID_REQUEST)
        route = routes.find(head.path)
        if self._hides_internal:
            _check_port(call)
        if options(call) is not None:
            self._forwarding.host(call.header.own, client=call.client.address, host=head.host)
        elif route is not None:
            call.handler = self._proxy
            call.route = route
        call.handler.accept(call)

    def rejected(self, refused: Refused, request_id: str) -> None:
        """See `edge.listening.Application`."""
        metrics.count_error(refused.reason)
        began = trace.begin(None, None, method=OTHER, route="")
        if began.recording is not None:
            began.recording.end(refused.status, path="", request_id=request_id, reason=refused.reason)
        self._log.write("", Rejected(refused.status, refused.reason, request_id, began), 0.0)

    def close(self) -> None:
        """Close the connections to services, and write the buffered log lines."""
        self._proxy.close()
        self._log.flush()


def service_urls() -> dict[str, tuple[str, ...]]:
    """The URLs of the replicas of each service: USERS_URL and so on."""
    return {service: getattr(settings, f"{service.upper()}_URL") for service in routes.SERVICE_NAMES}


def default_host(allowed: list[str]) -> bytes:
    """The host of an HTTP/1.0 request that names none: the first name in ALLOWED_HOSTS that is not a wildcard."""
    return next((name for name in allowed if not name.startswith(("*", "."))), "localhost").encode()


def _check_method(method: str) -> None:
    """Raises Refused for methods that are not supported: no tunnels, and no echo of a request with its secrets."""
    if method in ("TRACE", "CONNECT"):
        closing = ((b"connection", b"close"),) if method == "CONNECT" else ()
        allow = (b"allow", ", ".join(sorted(STANDARD_METHODS)).encode())
        raise Refused(405, f"{method} is not supported.", (allow, *closing), reason=Reason.METHOD_NOT_ALLOWED)
    if not METHOD.fullmatch(method):
        raise Refused(501, "This method is not supported.", reason=Reason.UNKNOWN_METHOD)


def _check_port(call: Call) -> None:
    """Raises Refused (404) for paths that are not served on this port, however they are encoded."""
    path = unquote_to_bytes(call.head.path)
    if path != b"/health/live" and call.client.internal != (path in INTERNAL):
        raise Refused(404, "There is no resource at this path.", reason=Reason.NOT_FOUND)
