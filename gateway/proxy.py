"""Forwards a request to its service and the response to the client, with checks, limits and a request id.

A service receives a request only when it is complete, and never waits for the client. The proxy runs before Django, whose
request cycle would take ten times as long.
"""

import asyncio
import uuid
from dataclasses import dataclass
from time import perf_counter

import structlog

from gateway import headers, metrics, problems, routes, trace
from gateway.access import AccessLog
from gateway.call import LEFT, Call, ClientLeft
from gateway.connection import Header, Response, UpstreamError
from gateway.edge import heads
from gateway.problems import Reason, Refused
from gateway.upstream import Exchange, Request, Upstream
from gateway.watch import Watch

logger = structlog.get_logger(__name__)

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(slots=True)
class DirectExchange:
    """An exchange without a task, which most requests need not have.

    It cannot wait or retry. If that becomes necessary, a task takes over.
    """

    proxy: "Proxy"
    call: Call
    request: Request
    exchange: Exchange

    def on_response(self) -> None:
        """Forward the response if it is complete; otherwise start a task."""
        call, response = self.call, self.exchange.response
        call.on_interrupt = None
        if not response.complete or response.error is not None:
            self.proxy.start_task(call, self.request, self.exchange)
            return
        try:
            body = b"".join(response.chunks)
            self.exchange.end()
            call.respond(response.status, _fields(call, response, body), body)
            _trace_answer(call, self.request, response.status)
        except Exception as error:  # noqa: BLE001  fail() logs it; raised here, it would close the connection to the service
            self.proxy.fail(call, error)
        else:
            self.proxy.finish(call)

    def cancel(self) -> None:
        """End the exchange: its response is no longer needed."""
        self.exchange.response.listener = None
        self.exchange.end()


class Proxy:
    """Handles the paths of services. Accepts request bodies of up to `max_body` bytes."""

    keeps_body = True

    def __init__(
        self,
        upstreams: dict[str, Upstream],
        forwarding: headers.Forwarding,
        watch: Watch,
        log: AccessLog,
        *,
        max_body: int,
    ) -> None:
        self.max_body = max_body
        self.in_flight = 0
        """The number of requests in progress."""
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
        self.in_flight += 1
        own = call.header.own
        call.trace = trace.begin(
            own.get(b"traceparent"), own.get(b"tracestate"), method=call.logged_method, route=call.route.label
        )
        call.target = _target(call.head)
        heads.check_bounds(call.head.fields)

    def run(self, call: Call) -> None:
        """See Handler. Works without a task if a connection is idle and the response arrives in one piece."""
        try:
            request = self._request(call)
        except Exception as error:  # noqa: BLE001  fail() logs it
            self.fail(call, error)
            return
        if call.trace is not None and call.trace.recording is not None:
            call.trace.recording.sent()
        if request.repeatable and request.more is None:
            exchange = self._upstreams[call.route.service].send_at_once(request)
            if exchange is not None:
                direct = DirectExchange(self, call, request, exchange)
                call.on_interrupt = direct.cancel
                exchange.response.listener = direct.on_response
                call.replica = request.replica
                return
        self.start_task(call, request)

    def start_task(self, call: Call, request: Request, exchange: Exchange | None = None) -> None:
        """Continue in a task. `exchange` is given if the request has already been sent."""
        call.on_interrupt = exchange.end if exchange is not None else _release_nothing
        call.task = self._loop.create_task(self._serve(call, request, exchange))

    def fail(self, call: Call, error: Exception) -> None:
        """See Handler."""
        try:
            if isinstance(error, ClientLeft):
                call.status = LEFT
                metrics.CLIENT_DISCONNECTS.inc()
            elif isinstance(error, Refused | UpstreamError):
                call.refuse(problems.of(error))
            else:
                logger.error("the proxy failed", **call.ids, exc_info=error)
                call.refuse(problems.INTERNAL_ERROR)
        finally:
            self.finish(call)

    def finish(self, call: Call) -> None:
        """End the call: count and log it."""
        self.in_flight -= 1
        self._watch.remove(call)
        try:
            self._record(call)
        finally:
            # Even if recording fails, the connection continues or is closed.
            call.finish()

    def _record(self, call: Call) -> None:
        seconds = perf_counter() - call.started_at
        metrics.observe(call.logged_method, call.route.label, call.status, seconds)
        if call.aborted:
            metrics.ABORTED.labels(call.route.service).inc()
        if call.trace is not None and (recording := call.trace.recording or self._late_recording(call, seconds)):
            path = call.head.path.decode("latin-1")
            recording.end(call.status, path=path, request_id=call.request_id, reason=call.reason)
        self._log.write(call.route.label, call, seconds)

    def _late_recording(self, call: Call, seconds: float) -> trace.Recording | None:
        """The recording of a request that has failed, if it is wanted although its trace is not sampled."""
        if call.status < 500 or call.trace is None:
            return None
        return trace.record_failure(call.trace, method=call.logged_method, route=call.route.label, seconds=seconds)

    async def _serve(self, call: Call, request: Request, exchange: Exchange | None) -> None:
        call.on_interrupt = None
        failure: Exception | None = None
        status = 0
        try:
            exchange = await self._upstreams[call.route.service].exchange(request, exchange)
            status = exchange.response.status
            try:
                await _respond(call, exchange)
            finally:
                exchange.end()
        except asyncio.CancelledError:
            if call.interruption is None:
                raise
            failure = call.interruption
        except Exception as error:  # noqa: BLE001  fail() logs it
            failure = error
        call.replica = request.replica
        _trace_answer(call, request, status, failure)
        if failure is None:
            self.finish(call)
        else:
            self.fail(call, failure)

    def _request(self, call: Call) -> Request:
        head, header, method, body = call.head, call.header, call.method, call.body
        assert call.trace is not None
        lines = header.lines
        lines.append(
            self._forwarding.lines(header.own, client=call.client.address, host=head.host or b"", minor=head.minor)
        )
        lines.append(b"X-Request-Id: %b\r\ntraceparent: %b\r\n" % (call.request_id.encode(), call.trace.traceparent))
        if call.trace.tracestate:
            lines.append(b"tracestate: %b\r\n" % call.trace.tracestate)
        if method == "OPTIONS" and b"max-forwards" in header.own:
            lines.append(_max_forwards(header.own[b"max-forwards"]))
        if method == "POST" and not header.has_idempotency_key:
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


def _fields(call: Call, response: Response, body: bytes) -> list[Header]:
    """The header of the response, with Content-Length if the body is complete and its length is not given."""
    fields = headers.returned(response.headers, status=response.status, request_id=call.request_id.encode())
    if response.complete and not response.sized and response.status not in (204, 304) and call.method != "HEAD":
        fields.append((b"content-length", b"%d" % len(body)))
    return fields


def _trace_answer(call: Call, request: Request, status: int, error: Exception | None = None) -> None:
    """Note for the CLIENT span, if one is recorded, how the service responded."""
    if call.trace is not None and call.trace.recording is not None:
        call.trace.recording.answered(replica=request.replica, resends=request.resends, status=status, error=error)


def _release_nothing() -> None:
    """The `on_interrupt` of a call that holds no resources."""


async def _respond(call: Call, exchange: Exchange) -> None:
    """Forward the response: immediately if it is complete, otherwise in parts as they arrive.

    The connection to the service is released once the response is complete, however slowly the client reads.
    """
    connection, response = exchange.connection, exchange.response
    body = connection.take(response)
    fields = _fields(call, response, body)
    if response.complete:
        exchange.end()
        call.respond(response.status, fields, body)
        return
    call.start(response.status, fields)
    while body or not response.complete:
        if body:
            await call.write(body)
        body = await connection.body(response)
    exchange.end()
    await call.end()


def _target(head: heads.Head) -> bytes:
    """The target for the service: its own path and the unchanged query. Raises Refused (400)."""
    if routes.has_dot_segments(head.path):
        raise Refused(400, "The path contains dot segments.", reason=Reason.INVALID_REQUEST)
    path = routes.to_service(head.path)
    return b"%b?%b" % (path, head.query) if head.query else path


def _max_forwards(value: bytes) -> bytes:
    """The decremented field; empty if it is not a number (RFC 9110 7.6.2)."""
    return b"Max-Forwards: %d\r\n" % (int(value) - 1) if value.isdigit() and len(value) < 10 else b""
