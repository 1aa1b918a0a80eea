"""The gateway's own pages: Django handles requests that belong to no service, by ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import structlog

from chassis.observability.middleware import PROBES
from gateway import metrics, problems, trace
from gateway.access import AccessLog
from gateway.call import LEFT, Call, ClientLeft
from gateway.connection import Header
from gateway.edge import heads, responses
from gateway.edge.bodies import MAX_DISCARDED
from gateway.problems import Refused
from gateway.watch import Watch

Message = Mapping[str, Any]
Django = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""For responses that are not pages; Django sets the policy of pages."""

OPTIONS = [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"), (b"content-length", b"0")]

_BODY_FIELDS = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"expect", b"host", b"x-request-id"}
)

_PROBES = tuple(path.encode() for path in PROBES)

logger = structlog.get_logger(__name__)


class Pages:
    """Handles requests that belong to no service. Django gets no body, since these pages accept none."""

    max_body = MAX_DISCARDED
    keeps_body = False

    def __init__(self, django: Django, watch: Watch, log: AccessLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._django = django
        self._tasks: set[asyncio.Task[None]] = set()
        self._exchanges: dict[Call, _Exchange] = {}
        self._watch = watch
        self._log = log

    @property
    def in_flight(self) -> int:
        """The number of requests that Django is processing, without probes."""
        return sum(not _is_probe(call) for call in self._exchanges)

    def accept(self, call: Call) -> None:
        """See Handler."""
        heads.check_bounds(call.head.fields)

    def run(self, call: Call) -> None:
        """See Handler."""
        own = options(call)
        if own is not None:
            status, fields = own
            call.respond(status, [*fields, (b"x-request-id", call.request_id.encode())], b"")
            self._observe(call)
            self._finish(call)
            return
        exchange = self._exchanges[call] = _Exchange(call)
        call.on_interrupt = exchange.disconnected.set
        task = self._loop.create_task(self._serve(call, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def fail(self, call: Call, error: Exception) -> None:
        """See Handler."""
        try:
            if call.trace is None:
                own = call.header.own
                call.trace = trace.begin(
                    own.get(b"traceparent"), own.get(b"tracestate"), method=call.logged_method, route=""
                )
            if isinstance(error, ClientLeft):
                call.status = LEFT
                metrics.CLIENT_DISCONNECTS.inc()
            elif isinstance(error, Refused):
                call.refuse(error)
            else:
                logger.error("a page failed", **call.ids, error=type(error).__name__)
                call.refuse(problems.INTERNAL_ERROR)
            self._observe(call)
            if call.trace.recording is not None:
                call.trace.recording.end(call.status, path="", request_id=call.request_id, reason=call.reason)
            self._log.write("", call, perf_counter() - call.started_at)
        finally:
            self._finish(call)

    def _observe(self, call: Call) -> None:
        """Count the request, unless it is a probe or Django, whose middleware counts it, has responded."""
        exchange = self._exchanges.get(call)
        if not _is_probe(call) and (exchange is None or not exchange.has_status):
            metrics.observe(call.logged_method, "", call.status, perf_counter() - call.started_at)

    def _finish(self, call: Call) -> None:
        self._exchanges.pop(call, None)
        self._watch.remove(call)
        call.finish()

    async def _serve(self, call: Call, exchange: "_Exchange") -> None:
        """Let Django respond. An interrupted call is not cancelled: Django would leave its own tasks behind."""
        error: Exception | None = None
        try:
            await self._django(_scope(call), exchange.receive, exchange.send)
        except Exception as raised:  # noqa: BLE001  fail() logs it
            error = raised
        if exchange.disconnected.is_set():
            return
        if error is None and exchange.ended:
            self._finish(call)
        else:
            self.fail(call, error or RuntimeError("no response"))


class _Exchange:
    """The two functions of ASGI, for one call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.disconnected = asyncio.Event()
        """Set when the client has disconnected or has got another response; Django then stops."""
        self._body_received = False
        self._status = 0
        self._fields: list[Header] = []
        self.ended = False

    @property
    def has_status(self) -> bool:
        """Whether Django has responded, if not completely."""
        return self._status > 0

    async def receive(self) -> Message:
        """Return an empty body, then wait until the client disconnects."""
        if not self._body_received:
            self._body_received = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._fields = [(name.lower(), value) for name, value in message["headers"]]
            names = {name for name, _ in self._fields}
            if b"content-security-policy" not in names:
                self._fields.append(POLICY)
            if self._status == 405 and b"allow" not in names:
                # For static files; RFC 9110 15.5.6 requires it.
                self._fields.append((b"allow", b"GET, HEAD"))
            return
        if self.ended or self.disconnected.is_set():
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        call = self._call
        self.ended = not more
        if not call.started and not more:
            self._send_complete(body)
            return
        if not call.started:
            call.start(self._status, self._fields)
        if body and call.method != "HEAD":
            # Pages are sent as fast as the client reads them, without buffering.
            await call.drain()
            if self.disconnected.is_set():
                return
            await call.write(body)
        if self.ended and call.method != "HEAD":
            await call.end()

    def _send_complete(self, body: bytes) -> None:
        fields = self._fields
        if responses.bodiless(self._status):
            fields = [field for field in fields if field[0] != b"content-length"]
        else:
            if self._status >= 400 and not body and self._call.method != "HEAD":
                # Responses for static files have no body.
                path = self._call.head.path.decode("latin-1")
                body = problems.body(self._status, "", instance=path, request_id=self._call.request_id)
                fields = [field for field in fields if field[0] not in (b"content-length", b"content-type")]
                fields.append((b"content-type", b"application/problem+json"))
            if not any(name == b"content-length" for name, _ in fields):
                fields.append((b"content-length", b"%d" % len(body)))
        self._call.respond(self._status, fields, body)


def _is_probe(call: Call) -> bool:
    return call.head.path.startswith(_PROBES)


def options(call: Call) -> tuple[int, list[Header]] | None:
    """Status and fields of the response to an OPTIONS for the gateway itself; None for every other request.

    These are `OPTIONS *`, OPTIONS with `Max-Forwards: 0` (RFC 9110 7.6.2), and preflights from allowed origins, whose pages
    can then read the gateway's errors while a service is unavailable.
    """
    if call.method != "OPTIONS":
        return None
    forwards = call.header.own.get(b"max-forwards", b"")
    if call.head.path == b"*" or (forwards.isdigit() and not forwards.strip(b"0")):
        return 200, OPTIONS
    preflight = call.client.edge.origins.preflight(call.head.fields)
    return None if preflight is None else (204, preflight)


def _scope(call: Call) -> dict[str, Any]:
    head, client = call.head, call.client
    fields = [field for field in head.fields if field[0] not in _BODY_FIELDS and b"_" not in field[0]]
    fields.append((b"x-request-id", call.request_id.encode()))
    if head.host is not None:
        fields.append((b"host", head.host))
    path = head.path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"1.{head.minor}",
        "method": head.method,
        "scheme": "http",
        "path": unquote(path) if "%" in path else path,
        "raw_path": head.path,
        "query_string": head.query,
        "root_path": "",
        "headers": fields,
        "client": (client.address, client.port),
        "server": client.edge.address,
    }
