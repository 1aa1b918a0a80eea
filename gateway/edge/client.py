"""The connection of a client: parses its requests, one after the other, and enforces limits.

Requests are processed in order: the next one is parsed only after the response to the previous one. A connection always
has a deadline, except while a request is in progress, which has its own.
"""

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import structlog

from chassis.observability import correlation
from gateway import drain, problems
from gateway.call import Call
from gateway.connection import Header
from gateway.edge import heads, responses
from gateway.edge.bodies import MAX_AHEAD, MAX_DISCARDED, Body, Chunked, Framing, Sized, too_large
from gateway.edge.output import Output
from gateway.edge.states import State
from gateway.problems import Reason, Refused

if TYPE_CHECKING:
    from gateway.edge.listening import Edge

logger = structlog.get_logger(__name__)

HEAD_SECONDS = 10.0
"""Time limit for receiving a request header, also on a new connection."""

KEEP_ALIVE_SECONDS = 65.0
"""How long an idle connection is kept."""

FLUSH_SECONDS = 10.0
"""How long a client may take to read pending responses, before the next request is processed, until it is disconnected."""

CLOSE_SECONDS = 5.0
"""How long a client may take to read the last response and stop sending after the connection is closed."""

PROBE_SECONDS = 0.5
"""Time until a half-closed connection is first probed; it doubles after each probe."""


class Client(asyncio.Protocol):
    """The connection of a client. Requests are passed to `Edge.application`."""

    __slots__ = (
        "_buffer", "_call", "_continue_pending", "_discarded", "_eof", "_framing", "_has_responded", "_paused", "_probe_at",
        "_probe_wait", "_proceeding", "_scanned", "_state", "_transport", "address", "deadline", "edge", "internal",
        "keep_alive", "output", "port",
    )  # fmt: skip

    def __init__(self, edge: "Edge", *, internal: bool) -> None:
        self.edge = edge
        self.internal = internal
        self.address = ""
        self.port = 0
        self.keep_alive = True
        self.deadline = float("inf")
        self._state = State.IDLE
        self._buffer = bytearray()
        self._scanned = 0
        self._call: Call | None = None
        self._framing: Framing | None = None
        self._continue_pending = False
        self._has_responded = False
        self._discarded = 0
        self._eof = False
        self._paused = False
        self._proceeding = False
        self._probe_at = 0.0
        self._probe_wait = PROBE_SECONDS

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self.output = Output(self._transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self.address, self.port = peer[0].removeprefix("::ffff:"), peer[1]
        if not self.edge.connections.admit(self):
            retry = ((b"retry-after", b"1"),)
            self.refuse(Refused(503, "There are too many connections.", retry, reason=Reason.TOO_MANY_CONNECTIONS))
            return
        self.edge.connections.mark_waiting(self)
        self.deadline = self.edge.loop.time() + HEAD_SECONDS

    def data_received(self, data: bytes) -> None:
        """Parse the data, or buffer it while a request is in progress."""
        if self._state is State.CLOSED:
            self._discard(data)
            return
        if self._state is State.IDLE and not self._buffer and heads.is_complete(data):
            # The usual case: one request without a body, in one piece.
            self._proceed(data)
            return
        self._buffer += data
        if self._state is State.WORK or self._state is State.FLUSH:
            if len(self._buffer) > MAX_AHEAD and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            return
        self._proceed()

    def eof_received(self) -> bool:
        """The client has half-closed, and receives the pending response. Returns whether to keep the connection."""
        self._eof = True
        if self._state is State.WORK or self._state is State.FLUSH:
            self._probe_at = self.edge.loop.time() + PROBE_SECONDS
            self.edge.connections.mark_half_closed(self)
            return True
        return self._input_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by the client or by the gateway."""
        self._state = State.CLOSED
        self._buffer.clear()
        self.edge.connections.remove(self)
        call, self._call = self._call, None
        if call is not None:
            call.disconnected()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client does not accept more data."""
        self.output.pause()

    def resume_writing(self) -> None:
        """The client accepts data again."""
        self.output.resume()
        if self._state is State.FLUSH:
            self._next()

    # --- for the current call ---

    @property
    def awaits_body(self) -> bool:
        """Whether the body of the request is incomplete."""
        return self._state is State.BODY

    def is_last(self, fields: list[Header]) -> bool:
        """Whether the response with these fields is the last one on this connection."""
        if self.keep_alive and (
            drain.draining.is_set() or self._continue_pending or (b"connection", b"close") in fields
        ):
            # A client that got no 100 Continue may or may not send its body, so the next data would be ambiguous.
            self.keep_alive = False
        return not self.keep_alive

    def call_finished(self, call: Call) -> None:
        """The call has ended: continue with the next request, or close."""
        if self._call is not call:
            return
        self._call = None
        self._has_responded = True
        is_complete = self._state is State.WORK
        if call.aborted or not call.started:
            self._close(linger=False)
        elif not self.keep_alive:
            self._close(linger=True)
        elif not is_complete:
            self._state = State.DISCARD
            self.deadline = self.edge.loop.time() + CLOSE_SECONDS
            self.edge.connections.mark_waiting(self)
            if self._buffer and not self._proceeding:
                self._proceed()
        elif not self.output.is_writable:
            self._state = State.FLUSH
            self.deadline = self.edge.loop.time() + FLUSH_SECONDS
            self.edge.connections.mark_waiting(self)
        else:
            self._next()

    # --- for all connections (`connections.py`) ---

    def expire(self) -> None:
        """The deadline has passed."""
        if self._state in (State.CLOSED, State.FLUSH):
            self._transport.abort()
        elif self._state is State.HEAD or not self._has_responded:
            self.refuse(Refused(408, "The request header was not received in time.", reason=Reason.REQUEST_TIMEOUT))
        else:
            self._close(linger=False)

    def probe(self, now: float) -> None:
        """Check whether a half-closed client is still there, by sending data, which one that is gone rejects.

        The data is an interim response, which every HTTP/1.1 client ignores (RFC 9110 15.2.1).
        """
        call = self._call
        if call is None or self._state is State.CLOSED:
            return
        if self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._transport.abort()
        elif now >= self._probe_at and call.head.minor and not call.started:
            self._probe_at = now + self._probe_wait
            self._probe_wait *= 2
            self.output.write(responses.CONTINUE)

    def abort(self) -> None:
        """Close immediately, to make room for another connection or after an error."""
        self._transport.abort()

    def shut_down(self) -> None:
        """Close immediately if no request is in progress, otherwise after the response."""
        self.keep_alive = False
        if self._state in (State.IDLE, State.DISCARD, State.FLUSH):
            self._close(linger=False)

    def refuse(self, refused: Refused, head: bytes | None = None) -> None:
        """Respond to an invalid request, and close. `head` is its received part, by default the buffer."""
        request_id = correlation.new()
        body = problems.body(refused.status, refused.detail, instance="", request_id=request_id)
        origins = self.edge.origins.fields_for(self._buffer if head is None else head)
        fields = [*problems.headers(body, request_id), *refused.headers, *origins]
        self.output.write(responses.head(refused.status, fields, close=True) + body)
        self._close(linger=True)
        self.edge.application.rejected(refused, request_id)

    # --- parsing ---

    def _next(self) -> None:
        """The response has been sent: parse the next request."""
        self._state = State.IDLE
        self.deadline = self.edge.loop.time() + KEEP_ALIVE_SECONDS
        self.edge.connections.mark_waiting(self)
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if not self._proceeding and (self._buffer or self._eof):
            self._proceed()

    def _proceed(self, head: bytes | None = None) -> None:
        """Parse a `head` that was not buffered, if given, and then the buffer."""
        self._proceeding = True
        try:
            if head is not None:
                self._request(head)
            while self._parse():
                pass
        except Exception:
            # Otherwise the task of the previous request would fail instead, and this request would never end.
            logger.exception("a connection failed", **(self._call.ids if self._call is not None else {}))
            self._transport.abort()
        self._proceeding = False
        if self._eof:
            self._input_ended()

    def _input_ended(self) -> bool:
        """The client sends no more: reject an incomplete request. Returns whether a response is pending."""
        if self._state is State.BODY and self._call is not None:
            closing = ((b"connection", b"close"),)
            self._call.interrupt(Refused(400, "The body is incomplete.", closing, reason=Reason.INVALID_BODY))
        elif self._state is State.HEAD:
            self.refuse(Refused(400, "The request header is incomplete.", reason=Reason.INVALID_REQUEST))
        elif self._state is not State.WORK and self._state is not State.FLUSH:
            self._close(linger=False)
            return False
        return True

    def _parse(self) -> bool:
        """Parse a head or a body. Returns False if more data is needed, or a request is in progress."""
        if self._state is State.IDLE or self._state is State.HEAD:
            return self._parse_head()
        return self._state in (State.BODY, State.DISCARD) and self._parse_body()

    def _parse_head(self) -> bool:
        buffer = self._buffer
        if self._state is State.IDLE:
            # RFC 9112 2.2: ignore empty lines before a request; some clients send one after a body.
            while buffer.startswith(b"\r\n"):
                del buffer[:2]
            if not buffer or buffer == b"\r":
                return False
            self._state = State.HEAD
            self._scanned = 0
            self.deadline = self.edge.loop.time() + HEAD_SECONDS
        end = buffer.find(heads.END, max(0, self._scanned - 3))
        if end < 0:
            try:
                heads.check_beginning(buffer, self._scanned)
            except Refused as refused:
                self.refuse(refused)
            self._scanned = len(buffer)
            return False
        data = bytes(buffer[: end + 4])
        del buffer[: end + 4]
        self._request(data)
        return True

    def _request(self, data: bytes) -> None:
        """Start a call for a complete head."""
        try:
            head = heads.parse(data)
        except Refused as refused:
            self.refuse(refused, data)
            return
        edge = self.edge
        call = self._call = Call(self, head, now=edge.loop.time(), timeout=edge.timeout)
        self.deadline = float("inf")
        self._state = State.BODY
        self._framing, self._continue_pending = None, False
        refusal = None
        try:
            edge.application.accept(call)
        except Refused as refused:
            refusal = refused
        if head.close:
            self.keep_alive = False
        if refusal is not None:
            self._frame(head)
            call.handler.fail(call, refusal)
        elif head.has_body:
            self._expect_body(call, head)
        else:
            self._run(call)

    def _expect_body(self, call: Call, head: heads.Head) -> None:
        self._frame(head)
        if head.length is not None and head.length > call.handler.max_body:
            call.handler.fail(call, too_large(call.handler.max_body))
            return
        call.body = Body(self.edge.room)
        self.edge.watch.add(call)
        self.edge.connections.mark_waiting(self)
        if self._continue_pending and not self._buffer:
            self._continue_pending = False
            self.output.write(responses.CONTINUE)

    def _frame(self, head: heads.Head) -> None:
        """Determine where the body ends, also if it will be discarded."""
        self._framing = Chunked() if head.chunked else Sized(head.length or 0)
        self._continue_pending = head.expects and head.has_body

    def _parse_body(self) -> bool:
        assert self._framing is not None
        call = self._call
        try:
            if not self._framing.feed(self._buffer, self._store if call is not None else self._drop):
                return False
        except Refused as refused:
            if call is None:
                self._close(linger=False)
                return False
            call.interrupt(refused)
            return self._state is State.DISCARD
        if self._state is State.DISCARD:
            self._state = State.WORK
            self._next()
        elif self._state is State.BODY and call is not None:
            self._continue_pending = False
            self._run(call)
        return True

    def _run(self, call: Call) -> None:
        self._state = State.WORK
        self.edge.connections.mark_working(self)
        self.edge.watch.add(call)
        call.handler.run(call)

    def _store(self, piece: bytes) -> None:
        call = self._call
        assert call is not None
        assert call.body is not None
        self._continue_pending = False
        if call.body.size + len(piece) > call.handler.max_body:
            raise too_large(call.handler.max_body)
        if call.handler.keeps_body:
            call.body.append(piece)
        else:
            call.body.size += len(piece)

    def _drop(self, piece: bytes) -> None:
        self._discarded += len(piece)
        if self._discarded > MAX_DISCARDED:
            raise Refused(413, "The body is too large.", reason=Reason.BODY_TOO_LARGE)

    # --- closing ---

    def _close(self, *, linger: bool) -> None:
        """Send the queued data, and close; with `linger` after the client has closed, so that it can read the response."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        self._buffer.clear()
        self.edge.connections.mark_waiting(self)
        self.deadline = self.edge.loop.time() + CLOSE_SECONDS
        if self._transport.is_closing():
            return
        if linger and not self._eof:
            if self._paused:
                self._transport.resume_reading()
            self._transport.write_eof()
        else:
            self._transport.close()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > MAX_DISCARDED:
            self._transport.abort()
