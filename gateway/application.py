"""Who answers: the proxy or Django; and the life of the proxy, from the first request to the shutdown."""

import gc
from collections.abc import Awaitable, Callable

from django.conf import settings

from gateway import routes
from gateway.access import AccessLog
from gateway.call import Message, Receive, Scope, Send
from gateway.headers import Forwarding
from gateway.proxy import Limits, Proxy
from gateway.upstream import Upstream


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
        route = routes.find(scope["raw_path"])
        if route is not None:
            await (self._proxy or self._start())(route, scope, receive, send)
        else:
            await self._django(scope, _Bodiless(receive), send)

    def shortcut(self, scope: Scope, start_task: Callable[[], None]) -> bool:
        """Our server asks this first: whether the request is answered without a task (`Proxy.shortcut`)."""
        route = routes.find(scope["raw_path"])
        return route is not None and self._proxy is not None and self._proxy.shortcut(route, scope, start_task)

    def _start(self) -> Proxy:
        """The proxy is made within the loop that it will run in."""
        patience = settings.GATEWAY_CONNECT_TIMEOUT_SECONDS
        self._proxy = Proxy(
            {service: Upstream(service, urls, connect_timeout=patience) for service, urls in service_urls().items()},
            Forwarding(
                allowed_hosts=settings.ALLOWED_HOSTS, trusted=settings.TRUST_FORWARDED_HEADERS, prefix=routes.PREFIX
            ),
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


class _Bodiless:
    """What Django receives: no body. The gateway's own pages take none, and Django would store any size of it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._begun = False

    async def __call__(self) -> Message:
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (message := await self._receive())["type"] != "http.disconnect":
            continue
        return message


def service_urls() -> dict[str, tuple[str, ...]]:
    """Where the replicas of each service are: USERS_URL and its neighbours."""
    return {service: getattr(settings, f"{service.upper()}_URL") for service in routes.SERVICES}


async def _decline(receive: Receive, send: Send) -> None:
    """A WebSocket, from a server that was started with support for it."""
    await receive()
    await send({"type": "websocket.close", "code": 1003})


def _settle_garbage() -> None:
    """What is loaded by now stays: to look at it again and again would cost 8 % of each request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
