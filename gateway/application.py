"""Who answers a request: the proxy or Django's pages; and what of it neither of them takes."""

import re
from urllib.parse import unquote_to_bytes

from django.conf import settings

from chassis.http.forwarded import Proxies
from gateway import headers, routes
from gateway.access import AccessLog
from gateway.call import Call
from gateway.pages import Django, Pages, options
from gateway.problems import Refused
from gateway.proxy import Proxy
from gateway.upstream import Upstream
from gateway.watch import Watch

METHOD = re.compile(r"[A-Z]{3,16}(?:-[A-Z]{1,16})?")
"""Methods that a service is asked about; gunicorn takes no others."""

STANDARD_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

INTERNAL = frozenset({b"/metrics", b"/health/ready"})
"""What is not shown to clients where there is an internal port for it."""


class Gateway:
    """Finds for each call who answers it. `django` is the ASGI application of the gateway's own pages."""

    def __init__(self, django: Django, watch: Watch) -> None:
        self._log = AccessLog(
            service=settings.SERVICE_NAME, level=settings.LOG_LEVEL, as_json=settings.LOG_FORMAT == "json"
        )
        self._forwarding = headers.Forwarding(
            allowed_hosts=settings.ALLOWED_HOSTS, proxies=Proxies(settings.TRUSTED_PROXIES), prefix=routes.PREFIX
        )
        patience = settings.GATEWAY_CONNECT_TIMEOUT_SECONDS
        self._proxy = Proxy(
            {service: Upstream(service, urls, connect_timeout=patience) for service, urls in service_urls().items()},
            self._forwarding,
            watch,
            self._log,
            max_body=settings.GATEWAY_MAX_BODY_BYTES,
        )
        self._pages = Pages(django, watch, self._log)
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
            raise Refused(400, "There is more than one Content-Type.")
        route = routes.find(head.path)
        if self._hides_internal:
            _check_port(call)
        if options(call) is not None:
            self._forwarding.host(call.header.own, client=call.client.address, host=head.host)
        elif route is not None:
            call.handler = self._proxy
            call.route = route
        call.handler.accept(call)

    def close(self) -> None:
        """Close what is open to the services, and write what waits for the log."""
        self._proxy.close()
        self._log.flush()


def service_urls() -> dict[str, tuple[str, ...]]:
    """Where the replicas of each service are: USERS_URL and its neighbours."""
    return {service: getattr(settings, f"{service.upper()}_URL") for service in routes.SERVICE_NAMES}


def default_host(allowed: list[str]) -> bytes:
    """Whom a request of HTTP/1.0 without a host is for: the first of the hosts that are served here, by name."""
    return next((name for name in allowed if not name.startswith(("*", "."))), "localhost").encode()


def _check_method(method: str) -> None:
    """Raises Refused for what is not done here: no tunnels, no echo of a request with all its secrets."""
    if method in ("TRACE", "CONNECT"):
        closing = ((b"connection", b"close"),) if method == "CONNECT" else ()
        raise Refused(
            405, f"{method} is not done here.", ((b"allow", ", ".join(sorted(STANDARD_METHODS)).encode()), *closing)
        )
    if not METHOD.fullmatch(method):
        raise Refused(501, "This method is not known here.", reason="unknown_method")


def _check_port(call: Call) -> None:
    """Raises Refused (404) for what is not behind this port, however its path is written."""
    path = unquote_to_bytes(call.head.path)
    if path != b"/health/live" and call.client.internal != (path in INTERNAL):
        raise Refused(404, "There is nothing at this path.")
