"""How a request gets to its service and the answer back: checked, bounded, timed, told apart by a request id.

A service hears of a request when all of it is here, and nothing of it waits for the client after that. This runs before
Django, whose request cycle would take ten times as long as everything here.
"""

import asyncio
import uuid
from dataclasses import dataclass

import structlog

from gateway import headers, metrics, problems, routes, trace
from gateway.access import AccessLog
from gateway.call import LEFT, Call, ClientLeft
from gateway.connection import Answer, Header, UpstreamError
from gateway.edge import heads
from gateway.problems import Refused
from gateway.upstream import Exchange, Request, Upstream
from gateway.watch import Watch

logger = structlog.get_logger(__name__)

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(slots=True)
class Begun:
    """A request that was sent on without a task that waits for its answer: the way of most of them.

    Nothing here waits or tries again. As soon as any of that is called for, a task takes over.
    """

    proxy: "Proxy"
    call: Call
    request: Request
    exchange: Exchange

    def arrived(self) -> None:
        """Something of the answer is there: when it is all of it, the client gets it."""
        call, answer = self.call, self.exchange.answer
        call.on_interrupt = None
        if not answer.complete or answer.error is not None:
            self.proxy.start_task(call, self.request, self.exchange)
            return
        try:
            body = b"".join(answer.chunks)
            self.exchange.end()
            call.answer(answer.status, _fields(call, answer, body), body)
        except Exception as error:  # noqa: BLE001  fail() says it; here it would end the connection to the service
            self.proxy.fail(call, error)
        else:
            self.proxy.finish(call)

    def interrupted(self) -> None:
        """Nobody waits for the answer any more."""
        self.exchange.answer.listener = None
        self.exchange.end()


class Proxy:
    """Answers the paths that belong to services. Holds request bodies of up to `most_body` bytes."""

    keeps_body = True

    def __init__(
        self,
        upstreams: dict[str, Upstream],
        forwarding: headers.Forwarding,
        watch: Watch,
        log: AccessLog,
        *,
        most_body: int,
    ) -> None:
        self.most_body = most_body
        self._under_way = 0
        metrics.IN_FLIGHT.set_function(lambda: self._under_way)
        self._loop = asyncio.get_running_loop()
        self._upstreams = upstreams
        self._forwarding = forwarding
        self._watch = watch
        self._log = log

    def close(self) -> None:
        """Close idle connections."""
        for upstream in self._upstreams.values():
            upstream.close()

    def accept(self, call: Call) -> None:
        """See Handler."""
        self._under_way += 1
        ours = call.read.ours
        call.trace = trace.begin(
            ours.get(b"traceparent"), ours.get(b"tracestate"), method=call.method, route=call.route.label
        )
        call.target = _target(call.head)
        heads.check_bounds(call.head.fields)

    def run(self, call: Call) -> None:
        """See Handler. Where an idle connection and an answer in one piece make it possible, without a task."""
        try:
            request = self._request(call)
        except Exception as error:  # noqa: BLE001  fail() says it
            self.fail(call, error)
            return
        if request.repeatable and request.more is None:
            exchange = self._upstreams[call.route.service].send_at_once(request)
            if exchange is not None:
                begun = Begun(self, call, request, exchange)
                call.on_interrupt = begun.interrupted
                exchange.answer.listener = begun.arrived
                call.replica = request.replica
                return
        self.start_task(call, request)

    def start_task(self, call: Call, request: Request, exchange: Exchange | None = None) -> None:
        """Go on in a task; `exchange`: the request has been sent already."""
        call.on_interrupt = exchange.end if exchange is not None else _nothing
        call.task = self._loop.create_task(self._serve(call, request, exchange))

    def fail(self, call: Call, error: Exception) -> None:
        """See Handler."""
        try:
            if isinstance(error, ClientLeft):
                call.status = LEFT
            elif isinstance(error, Refused | UpstreamError):
                call.refuse(problems.of(error))
            else:
                logger.error("the proxy failed", request_id=call.request_id, exc_info=error)
                call.refuse(problems.BUG)
        finally:
            self.finish(call)

    def finish(self, call: Call) -> None:
        """The call is over, one way or the other: count and log it."""
        self._under_way -= 1
        self._watch.remove(call)
        try:
            self._record(call)
        finally:
            # Whatever fails there: the connection goes on, or is closed.
            call.finished()

    def _record(self, call: Call) -> None:
        seconds = self._loop.time() - call.started_at
        service = call.route.service
        metrics.answered(service, call.method, call.status, seconds)
        if call.aborted:
            metrics.ABORTED.labels(service).inc()
        if call.trace is not None:
            call.trace.end(call.status)
        self._log.write(call.route.label, call, seconds)

    async def _serve(self, call: Call, request: Request, exchange: Exchange | None) -> None:
        call.on_interrupt = None
        failure: Exception | None = None
        try:
            exchange = await self._upstreams[call.route.service].answered(request, exchange)
            try:
                await _answer(call, exchange)
            finally:
                exchange.end()
        except asyncio.CancelledError:
            if call.interruption is None:
                raise
            failure = call.interruption
        except Exception as error:  # noqa: BLE001  fail() says it
            failure = error
        call.replica = request.replica
        if failure is None:
            self.finish(call)
        else:
            self.fail(call, failure)

    def _request(self, call: Call) -> Request:
        head, read, method, body = call.head, call.read, call.method, call.body
        assert call.trace is not None
        lines = read.lines
        lines.append(
            self._forwarding.lines(read.ours, client=call.client.address, host=head.host or b"", minor=head.minor)
        )
        lines.append(b"X-Request-Id: %b\r\ntraceparent: %b\r\n" % (call.request_id.encode(), call.trace.traceparent))
        if call.trace.tracestate:
            lines.append(b"tracestate: %b\r\n" % call.trace.tracestate)
        if method == "OPTIONS" and b"max-forwards" in read.ours:
            lines.append(_max_forwards(read.ours[b"max-forwards"]))
        if method == "POST" and not read.has_idempotency_key:
            lines.append(b"Idempotency-Key: %b\r\n" % str(uuid.uuid4()).encode())
        if body is not None or method in WITH_BODY:
            lines.append(b"Content-Length: %d\r\n" % (body.size if body is not None else 0))
        lines.append(b"\r\n")
        return Request(
            b"%b %b HTTP/1.1\r\n" % (method.encode(), call.target),
            b"".join(lines),
            body.whole() if body is not None and not body.spooled else b"",
            repeatable=method in IDEMPOTENT or method == "POST",
            is_head=method == "HEAD",
            more=body.pieces if body is not None and body.spooled else None,
            interim=lambda status, fields: call.interim(status, headers.interim(fields)),
        )


def _fields(call: Call, answer: Answer, body: bytes) -> list[Header]:
    """The header of the answer; where the whole body is there and nothing says how long it is, this does."""
    fields = headers.returned(answer.headers, status=answer.status, request_id=call.request_id.encode())
    if answer.complete and not answer.sized and answer.status not in (204, 304) and call.method != "HEAD":
        fields.append((b"content-length", b"%d" % len(body)))
    return fields


def _nothing() -> None:
    """Lets go of nothing."""


async def _answer(call: Call, exchange: Exchange) -> None:
    """Pass the answer on: at once when it is all there, else piece by piece, as the service sends it.

    The service is free again when all of it is here, however slowly the client reads.
    """
    connection, answer = exchange.connection, exchange.answer
    body = connection.take(answer)
    fields = _fields(call, answer, body)
    if answer.complete:
        exchange.end()
        call.answer(answer.status, fields, body)
        return
    call.start(answer.status, fields)
    while body or not answer.complete:
        if body:
            await call.write(body)
        body = await connection.body(answer)
    exchange.end()
    await call.end()


def _target(head: heads.Head) -> bytes:
    """What the service is asked for: its own path, and the query as it came. Raises Refused (400)."""
    if routes.climbs(head.path):
        raise Refused(400, "The path has dot segments.")
    path = routes.to_service(head.path)
    return b"%b?%b" % (path, head.query) if head.query else path


def _max_forwards(value: bytes) -> bytes:
    """The field with one less, or nothing where it is no number (RFC 9110 7.6.2)."""
    return b"Max-Forwards: %d\r\n" % (int(value) - 1) if value.isdigit() and len(value) < 10 else b""
