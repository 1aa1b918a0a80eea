"""Who answers: the proxy or Django; and the life of the proxy, from the first request to the shutdown."""

import gc
from collections.abc import Awaitable, Callable

from django.conf import settings

from gateway import routes
from gateway.access import AccessLog
from gateway.call import Receive, Scope, Send
from gateway.headers import Forwarding
from gateway.proxy import Limits, Proxy
from gateway.upstream import Upstream

STATIC_BELOW_PREFIX = b"/api/static/"
"""Services' pages ask for their styles here, as they know of the prefix; the gateway has the same files itself."""


class Gateway:
    """The ASGI application. `django` answers what belongs to no service."""

    def __init__(self, django: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._django = django
        self._proxy: Proxy | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's start and stop."""
        if scope["type"] != "http":
            await (self._live(receive, send) if scope["type"] == "lifespan" else _decline(receive, send))
            return
        path = scope["raw_path"]
        route = routes.find(path)
        if route is not None:
            await (self._proxy or self._start())(route, scope, receive, send)
            return
        if path.startswith(STATIC_BELOW_PREFIX):
            scope = {**scope, "root_path": routes.PREFIX.decode()}
        await self._django(scope, receive, send)

    def _start(self) -> Proxy:
        """The proxy is made within the loop that it will run in."""
        self._proxy = Proxy(
            {service: Upstream(service, urls, connect_timeout=settings.GATEWAY_CONNECT_TIMEOUT_SECONDS) for service, urls in service_urls().items()},
            Forwarding(allowed_hosts=settings.ALLOWED_HOSTS, trusted=settings.TRUST_FORWARDED_HEADERS, prefix=routes.PREFIX),
            Limits(body_bytes=settings.GATEWAY_MAX_BODY_BYTES, timeout=settings.GATEWAY_TIMEOUT_SECONDS),
            AccessLog(service=settings.SERVICE_NAME, level=settings.LOG_LEVEL, as_json=settings.LOG_FORMAT == "json"),
        )
        return self._proxy

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                _settle_garbage()
            if message["type"] == "lifespan.shutdown" and self._proxy is not None:
                self._proxy.close()
                self._proxy = None
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


def service_urls() -> dict[str, tuple[str, ...]]:
    """Where the replicas of each service are: USERS_URL and its neighbours."""
    return {service: getattr(settings, f"{service.upper()}_URL") for service in routes.SERVICES}


async def _decline(receive: Receive, send: Send) -> None:
    """A WebSocket, from a server that was started with support for it."""
    await receive()
    await send({"type": "websocket.close", "code": 1003})


def _settle_garbage() -> None:
    """What is loaded by now stays: the collector need not look at it again, nor after every 700 objects (8 % of a request)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
