"""How a request gets to its service and the answer back: checked, bounded, timed, told apart by a request id.

This runs before Django, whose request cycle would take ten times as long as everything here.
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway import headers, metrics, problems, routes, trace
from gateway.access import AccessLog
from gateway.call import LEFT, Call, ClientLeft, Receive, Scope, Send
from gateway.connection import Answer, Header, UpstreamError
from gateway.problems import Refused
from gateway.routes import Route
from gateway.upstream import Exchange, Request, Upstream
from gateway.watch import Watch

logger = structlog.get_logger(__name__)

MOST_REPEATABLE = 65_536
"""A body up to this size is held until the answer comes, so that it can be sent again; a larger one is streamed."""

MOST_TARGET_BYTES = 4_000
"""Of path and query; gunicorn takes a request line of 4,094."""

BEGUN = "gateway.begun"
"""Where in the scope a request stands that was sent on before its task began."""

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gateway takes and how long it waits; bytes and seconds."""

    body_bytes: int
    timeout: float


@dataclass(slots=True)
class Body:
    """What has been read of a request's body. `announced` is its Content-Length, None when it is chunked."""

    data: bytes
    complete: bool
    announced: int | None = None


@dataclass(slots=True)
class Begun:
    """A request that was sent on without a task that waits for its answer: the way of most of them.

    Nothing here waits, tries again or measures time. As soon as any of that is called for, a task takes over.
    """

    proxy: "Proxy"
    route: Route
    call: Call
    request: Request
    exchange: Exchange
    start_task: Callable[[], None]

    def arrived(self) -> None:
        """Something of the answer is there: when it is all of it, the client gets it."""
        call, answer = self.call, self.exchange.answer
        if answer.complete and answer.error is None:
            body = b"".join(answer.chunks)
            if call.answer_at_once(answer.status, _fields(call, answer, body), body):
                call.promote = None
                self.exchange.end()
                self.proxy.finish(self.route, call)
                return
        self.promote()

    def promote(self) -> None:
        """Go on in a task."""
        self.call.promote = self.exchange.answer.listener = None
        self.call.scope[BEGUN] = self
        self.start_task()


class Proxy:
    """Answers the paths that belong to services."""

    def __init__(
        self, upstreams: dict[str, Upstream], forwarding: headers.Forwarding, limits: Limits, log: AccessLog
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._upstreams = upstreams
        self._forwarding = forwarding
        self._limits = limits
        self._log = log
        self._watch = Watch(self._loop)
        metrics.IN_FLIGHT.set_function(lambda: len(self._watch))

    async def __call__(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun: Begun | None = scope.pop(BEGUN, None)
        call = begun.call if begun else Call(scope, loop=self._loop, timeout=self._limits.timeout)
        call.adopt(receive, send)
        self._watch.add(call)
        try:
            try:
                await self._relay(route, call, begun)
            except asyncio.CancelledError as cancelled:
                raise call.interruption() or cancelled from None
        except ClientLeft:
            call.status = LEFT
        except (Refused, UpstreamError) as error:
            self._settle(call)
            await call.refuse(problems.of(error))
        except Exception:
            logger.exception("the proxy failed", request_id=call.request_id)
            self._settle(call)
            await call.refuse(Refused(500, "Something went wrong here; the request id finds it in the logs."))
        finally:
            self.finish(route, call)

    def close(self) -> None:
        """Close idle connections and write what waits for the log."""
        for upstream in self._upstreams.values():
            upstream.close()
        self._log.flush()

    def shortcut(self, route: Route, scope: Scope, start_task: Callable[[], None]) -> bool:
        """Answer a request without a task, as nearly all can be: no body, an idle connection, an answer in one piece.

        Returns False when it cannot be so. Where it turns out later, `start_task` begins what then goes on from there.
        """
        if scope["method"] != "GET":
            return False
        call = Call(scope, loop=self._loop, timeout=self._limits.timeout)
        try:
            read, target = self._prepare(route, call)
            if b"content-length" in read.ours or b"transfer-encoding" in read.ours:
                return False
            request = self._request(call, target, read, Body(b"", complete=True))
        except Refused:
            return False
        exchange = self._upstreams[route.service].send_at_once(request)
        if exchange is None:
            return False
        call.body_read = True
        begun = Begun(self, route, call, request, exchange, start_task)
        call.promote = begun.promote
        exchange.answer.listener = begun.arrived
        self._watch.add(call)
        return True

    def _prepare(self, route: Route, call: Call) -> tuple[headers.Read, bytes]:
        """Give the call its ids, and check all that can be checked before its body. Returns its header and target."""
        scope = call.scope
        read = headers.read(scope["headers"])
        call.request_id = read.request_id()
        call.trace = trace.begin(
            read.ours.get(b"traceparent"), read.ours.get(b"tracestate"), method=scope["method"], route=route.label
        )
        target = _target(scope)
        headers.check_bounds(scope["headers"])
        _check_upgrade(call, read.ours)
        return read, target

    async def _relay(self, route: Route, call: Call, begun: Begun | None) -> None:
        upstream = self._upstreams[route.service]
        if begun:
            exchange = await upstream.answered(begun.request, begun.exchange)
        else:
            read, target = self._prepare(route, call)
            body = await self._body(call, read.ours)
            call.body_read = body.complete
            request = self._request(call, target, read, body)
            if body.complete:
                exchange = await upstream.answered(request)
            else:
                exchange = await upstream.send(request)
                call.pump(self._pump(call, exchange, body))
                await exchange.head()
        try:
            await _answer(call, exchange)
        finally:
            exchange.end()

    def _request(self, call: Call, target: bytes, read: headers.Read, body: Body) -> Request:
        scope, ours, method = call.scope, read.ours, call.scope["method"]
        assert call.trace is not None
        lines = read.lines
        client, scheme = scope["client"], scope["scheme"]
        lines.append(self._forwarding.lines(ours, client[0].encode() if client else b"unknown", scheme.encode()))
        lines.append(b"X-Request-Id: %b\r\ntraceparent: %b\r\n" % (call.request_id.encode(), call.trace.traceparent))
        if call.trace.tracestate:
            lines.append(b"tracestate: %b\r\n" % call.trace.tracestate)
        repeatable = body.complete and method in IDEMPOTENT
        if method == "POST" and body.complete:
            repeatable = True
            if not read.has_idempotency_key:
                lines.append(b"Idempotency-Key: %b\r\n" % str(uuid.uuid4()).encode())
        data = body.data
        if body.complete:
            if data or method in WITH_BODY:
                lines.append(b"Content-Length: %d\r\n" % len(data))
        elif body.announced is not None:
            lines.append(b"Content-Length: %d\r\n" % body.announced)
        else:
            lines.append(b"Transfer-Encoding: chunked\r\n")
            data = _chunk(data)
        lines.append(b"\r\n")
        start = b"%b %b HTTP/1.1\r\n" % (method.encode(), target)
        return Request(start, b"".join(lines), data, body.complete, repeatable, is_head=method == "HEAD")

    async def _body(self, call: Call, ours: dict[bytes, bytes]) -> Body:
        """Read the body, or the first part of a large one. Raises Refused (400, 413, 501) and ClientLeft."""
        length, coding = ours.get(b"content-length"), ours.get(b"transfer-encoding")
        if length is None and coding is None:
            return Body(b"", complete=True)
        announced = _announced(length, coding)
        if announced is not None and announced > self._limits.body_bytes:
            raise self._too_large()
        data = b""
        more = announced != 0
        while more and len(data) <= MOST_REPEATABLE:
            piece, more = await call.read()
            data += piece
            if len(data) > self._limits.body_bytes:
                raise self._too_large()
        return Body(data, complete=not more, announced=announced)

    async def _pump(self, call: Call, exchange: Exchange, body: Body) -> None:
        """Pass the rest of a large body on while it comes. Raises ClientLeft."""
        connection, sent, more = exchange.connection, len(body.data), True
        while more:
            piece, more = await call.read()
            sent += len(piece)
            if sent > self._limits.body_bytes:
                exchange.answer.fail(self._too_large())
                return
            if piece:
                await connection.write(piece if body.announced is not None else _chunk(piece))
        if body.announced is None:
            await connection.write(b"0\r\n\r\n")
        connection.end_request()
        call.body_read = True

    def _too_large(self) -> Refused:
        return Refused(413, f"The body is larger than {self._limits.body_bytes} bytes.")

    def _settle(self, call: Call) -> None:
        self._watch.remove(call)
        call.settle()

    def finish(self, route: Route, call: Call) -> None:
        """The call is over, one way or the other: count and log it."""
        self._settle(call)
        seconds = self._loop.time() - call.started_at
        metrics.answered(route.service, call.scope["method"], call.status, seconds)
        if call.aborted:
            metrics.ABORTED.labels(route.service).inc()
        if call.trace is not None:
            call.trace.end(call.status)
        self._log.write(route.label, call, seconds)


def _fields(call: Call, answer: Answer, body: bytes) -> list[Header]:
    """The header of the answer; where the whole body is there and nothing says how long it is, this does."""
    fields = headers.returned(answer.headers, status=answer.status, request_id=call.request_id.encode())
    if answer.complete and not answer.sized and answer.status not in (204, 304) and call.scope["method"] != "HEAD":
        fields.append((b"content-length", b"%d" % len(body)))
    return fields


async def _answer(call: Call, exchange: Exchange) -> None:
    """Pass the answer on: at once when it is all there, else piece by piece as fast as the client takes it."""
    connection, answer = exchange.connection, exchange.answer
    body = connection.take(answer)
    fields = _fields(call, answer, body)
    if answer.complete:
        exchange.end()
        await call.answer(answer.status, fields, body)
        return
    await call.start(answer.status, fields)
    while body or not answer.complete:
        if body:
            await call.write(body, more=True)
        body = await connection.body(answer)
    exchange.end()
    await call.write(b"", more=False)


def _target(scope: Scope) -> bytes:
    """What the service is asked for: path and query as they came, without the prefix. Raises Refused (400, 414)."""
    path, query = scope["raw_path"], scope["query_string"]
    if len(path) + len(query) > MOST_TARGET_BYTES:
        raise Refused(414, f"Path and query are longer than {MOST_TARGET_BYTES} bytes.")
    if routes.climbs(path):
        raise Refused(400, "The path has dot segments.")
    target = path[len(routes.PREFIX) :]
    return b"%b?%b" % (target, query) if query else target


def _check_upgrade(call: Call, ours: dict[bytes, bytes]) -> None:
    """HTTP/2 over cleartext is an offer that may be passed over (curl makes it); all else cannot be served here."""
    protocol = ours.get(b"upgrade")
    if protocol is None:
        return
    call.closing = True
    if protocol.strip().lower() != b"h2c":
        raise Refused(501, "The gateway speaks HTTP/1.1 and cannot switch to another protocol.")


def _announced(length: bytes | None, coding: bytes | None) -> int | None:
    """The Content-Length, or None for a chunked body. Raises Refused for a framing that could be read in two ways."""
    if coding is not None:
        if length is not None:
            raise Refused(400, "A body has a length or is chunked, not both.", ((b"connection", b"close"),))
        if coding.lower() != b"chunked":
            raise Refused(501, "The only transfer coding that is understood is chunked.", ((b"connection", b"close"),))
        return None
    assert length is not None
    if not length.isdigit() or len(length) > 18:
        raise Refused(400, "The Content-Length is no number.", ((b"connection", b"close"),))
    return int(length)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
