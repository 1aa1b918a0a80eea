"""A request of a client, with its handler and its response."""

import asyncio
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from chassis.observability.middleware import METHODS, OTHER
from gateway import metrics, problems
from gateway.connection import Header
from gateway.edge import responses
from gateway.edge.outgoing import Outgoing
from gateway.problems import Reason, Refused
from gateway.trace import Trace

if TYPE_CHECKING:
    from gateway.edge.bodies import Body
    from gateway.edge.client import Client
    from gateway.edge.heads import Head
    from gateway.headers import RequestHeader
    from gateway.routes import Route

LEFT = 499
"""The status in logs and metrics of requests whose client disconnected before the response. It is never sent."""


class ClientLeft(Exception):
    """The client has closed the connection."""


class Handler(Protocol):
    """A handler of requests: the proxy, or Django's pages."""

    max_body: int
    """The size of the largest body that it accepts, in bytes."""

    keeps_body: bool
    """Whether it needs the body; otherwise the body is counted and discarded."""

    def accept(self, call: "Call") -> None:
        """Examine the head, before the body is read. Raises Refused."""

    def run(self, call: "Call") -> None:
        """Respond to the complete request, and call `call.finish()` at the end. Does not raise."""

    def fail(self, call: "Call", error: Exception) -> None:
        """End a failed call. The error is ClientLeft, Refused or any other exception."""


class Call:
    """A request of a client. The response is sent by `respond`, or by `start`, `write` and `end`."""

    __slots__ = (
        "_chunked", "_client", "_interruption", "_outgoing", "_waits_for_client", "aborted", "body", "deadline", "handler",
        "head", "header", "logged_method", "on_interrupt", "reason", "replica", "request_id", "route", "started", "started_at",
        "status", "target", "task", "trace",
    )  # fmt: skip

    handler: Handler
    header: "RequestHeader"
    route: "Route"
    target: bytes

    def __init__(self, client: "Client", head: "Head", *, now: float, timeout: float) -> None:
        self._client = client
        self._interruption: Exception | None = None
        self._outgoing: Outgoing | None = None
        self._chunked = False
        self._waits_for_client = False
        self.head = head
        self.logged_method = head.method if head.method in METHODS else OTHER
        """The method for logs, traces and metrics: clients may send any text, and it may be personal data."""
        self.body: Body | None = None
        # The event loop's clock counts milliseconds, and is not updated during an iteration.
        self.started_at = perf_counter()
        self.deadline = now + timeout
        self.request_id = ""
        self.trace: Trace | None = None
        self.status = 500
        self.started = False
        self.aborted = False
        self.reason = ""
        """Why the gateway itself responded, or aborted a response, for the log."""
        self.replica = ""
        """The replica that was used last, for the log."""
        self.task: asyncio.Task[None] | None = None
        self.on_interrupt: Callable[[], None] | None = None
        """Releases the resources of this call unless a running task of its own does."""

    @property
    def client(self) -> "Client":
        """The connection of the client."""
        return self._client

    @property
    def method(self) -> str:
        """The request's method, as it was received."""
        return self.head.method

    @property
    def ids(self) -> dict[str, str]:
        """The ids of a log line about this call."""
        trace = self.trace
        return {
            "request_id": self.request_id,
            "trace_id": trace.trace_id if trace else "",
            "span_id": trace.span_id if trace else "",
        }

    # --- interruption ---

    def expire(self) -> None:
        """The deadline has passed. Called by `watch.py`."""
        if self._client.awaits_body:
            closing = ((b"connection", b"close"),)
            self.interrupt(
                Refused(408, "The request body was not received in time.", closing, reason=Reason.REQUEST_TIMEOUT)
            )
        else:
            self.interrupt(Refused(504, "The service did not respond in time.", reason=Reason.UPSTREAM_TIMEOUT))

    def abort(self) -> None:
        """Close the connection, since the call could not be ended properly."""
        self._client.abort()

    def disconnected(self) -> None:
        """The client has disconnected."""
        self.interrupt(ClientLeft())

    def interrupt(self, reason: Exception) -> None:
        """Stop processing this call. Only the first reason is recorded."""
        if self._interruption is not None:
            return
        self._interruption = reason
        if self.task is not None:
            self.task.cancel()
            if self.on_interrupt is None:
                return
            # A task that is cancelled before its first step never runs, so it cannot end the call.
        if self.on_interrupt is not None:
            self.on_interrupt()
        self.handler.fail(self, reason)

    @property
    def interruption(self) -> Exception | None:
        """Why this call's task was cancelled; None if it was cancelled otherwise."""
        return self._interruption

    def finish(self) -> None:
        """Release the resources of this call; the connection can process the next request."""
        self.task = self.on_interrupt = None
        if self.body is not None:
            self.body.release()
            self.body = None
        if self._outgoing is not None:
            self._outgoing.close()
            self._outgoing = None
        self._client.call_finished(self)

    # --- response ---

    def respond(self, status: int, fields: list[Header], body: bytes) -> None:
        """Send a complete response with one write. `fields` contain its length, if any."""
        self.status = status
        self.started = True
        head = responses.head(status, fields, close=self._client.is_last(fields))
        self._client.output.write(head if self.head.method == "HEAD" else head + body)

    def interim(self, status: int, fields: list[Header]) -> None:
        """Send an interim response, such as 103, unless the client uses HTTP/1.0."""
        if self.head.minor and not self.started:
            self._client.output.write(responses.interim(status, fields))

    def start(self, status: int, fields: list[Header]) -> None:
        """Send the head of a response, followed by `write` and `end`."""
        self.status = status
        self.started = True
        if not responses.bodiless(status) and not any(name == b"content-length" for name, _ in fields):
            if self.head.minor and self.head.method != "HEAD":
                fields.append((b"transfer-encoding", b"chunked"))
                self._chunked = True
            else:
                self._client.keep_alive = False
        self._client.output.write(responses.head(status, fields, close=self._client.is_last(fields)))
        self._outgoing = Outgoing(self._client.output, self._client.edge.room)

    async def write(self, data: bytes) -> None:
        """Send a part of the body. Does not wait for a slow client while there is room to buffer."""
        assert self._outgoing is not None
        await self._outgoing.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def drain(self) -> None:
        """Wait until the client accepts more data."""
        if not self._client.output.is_writable:
            await self._wait_for_client(self._client.output.drain())

    async def end(self) -> None:
        """End the body, and wait until the client has received all of it."""
        assert self._outgoing is not None
        if self._chunked:
            await self._outgoing.send(b"0\r\n\r\n")
        if not self._outgoing.is_empty:
            await self._wait_for_client(self._outgoing.sent())

    async def _wait_for_client(self, until: Coroutine[None, None, None]) -> None:
        # While the client is the one to act, the connection may be closed in favour of another.
        self._waits_for_client = True
        self._client.edge.connections.mark_waiting(self._client)
        await until
        self._client.edge.connections.mark_working(self._client)
        self._waits_for_client = False

    def refuse(self, refused: Refused) -> None:
        """Respond with a problem. After the response has started, abort it, so that the client notices."""
        if self.started:
            self.aborted = True
            self.reason = Reason.SLOW_CLIENT if self._waits_for_client else refused.reason
            return
        path = self.head.path.decode("latin-1")
        content = problems.body(refused.status, refused.detail, instance=path, request_id=self.request_id)
        self.reason = refused.reason
        metrics.count_error(refused.reason)
        origins = self._client.edge.origins.fields(self.head.fields)
        fields = [*problems.headers(content, self.request_id), *refused.headers, *origins]
        self.respond(refused.status, fields, content)
