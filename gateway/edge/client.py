"""One client's connection: its requests, one after the other, and what it may not do.

Requests are answered in the order in which they came: the next one is not looked at before the last one is answered. A
connection is never open without a deadline, except while a request is under way, which has one itself.
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
from gateway.problems import Refused

if TYPE_CHECKING:
    from gateway.edge.listening import Edge

logger = structlog.get_logger(__name__)

HEAD_SECONDS = 10.0
"""A request's header that takes longer is given up, and so is a new connection that stays silent."""

KEEP_ALIVE_SECONDS = 65.0
"""An idle connection of a client is closed after this long."""

FLUSH_SECONDS = 10.0
"""A client that has been answered and does not read its answers gets no further ones, and is cut off after this long."""

CLOSE_SECONDS = 5.0
"""A connection that is closed has this long to be gone: to read the last answer, and to stop sending."""

PROBE_SECONDS = 0.5
"""When a client that has half-closed is looked after; then again after twice that, and so on."""


class Client(asyncio.Protocol):
    """See above. The application behind it is `Edge.application`."""

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
        """A client has come."""
        self._transport = cast("asyncio.Transport", transport)
        self.output = Output(self._transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self.address, self.port = peer[0].removeprefix("::ffff:"), peer[1]
        if not self.edge.connections.admit(self):
            self.refuse(Refused(503, "There are too many connections.", ((b"retry-after", b"1"),)))
            return
        self.edge.connections.mark_waiting(self)
        self.deadline = self.edge.loop.time() + HEAD_SECONDS

    def data_received(self, data: bytes) -> None:
        """Take what came as far as it is this connection's turn."""
        if self._state is State.CLOSED:
            self._discard(data)
            return
        if self._state is State.IDLE and not self._buffer and heads.is_complete(data):
            # Nearly always: one request without a body, in one piece.
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
        """The client sends no more: it gets the answers that it still waits for. Whether to keep the connection."""
        self._eof = True
        if self._state is State.WORK or self._state is State.FLUSH:
            self._probe_at = self.edge.loop.time() + PROBE_SECONDS
            self.edge.connections.mark_half_closed(self)
            return True
        return self._input_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or was closed."""
        self._state = State.CLOSED
        self._buffer.clear()
        self.edge.connections.remove(self)
        call, self._call = self._call, None
        if call is not None:
            call.disconnected()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client does not take what we send."""
        self.output.pause()

    def resume_writing(self) -> None:
        """It does again."""
        self.output.resume()
        if self._state is State.FLUSH:
            self._next()

    # --- for the call that is being answered ---

    @property
    def awaits_body(self) -> bool:
        """Whether the request is not whole yet."""
        return self._state is State.BODY

    def is_last(self, fields: list[Header]) -> bool:
        """Whether the answer with these fields is the last one."""
        if self.keep_alive and (
            drain.draining.is_set() or self._continue_pending or (b"connection", b"close") in fields
        ):
            # A client that was not told to go on may send its body or not: what comes next could be either.
            self.keep_alive = False
        return not self.keep_alive

    def call_finished(self, call: Call) -> None:
        """The call is over: go on to the next request, or close."""
        if self._call is not call:
            return
        self._call = None
        self._has_responded = True
        whole = self._state is State.WORK
        if call.aborted or not call.started:
            self._close(linger=False)
        elif not self.keep_alive:
            self._close(linger=True)
        elif not whole:
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
        """The deadline is over."""
        if self._state in (State.CLOSED, State.FLUSH):
            self._transport.abort()
        elif self._state is State.HEAD or not self._has_responded:
            self.refuse(Refused(408, "The request's header did not come in time."))
        else:
            self._close(linger=False)

    def probe(self, now: float) -> None:
        """Find out whether a client that has half-closed is still there: one that is not rejects what is sent to it.

        What is sent is an interim answer that every client of HTTP/1.1 passes over (RFC 9110 15.2.1).
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
        """Close at once: another needs the place, or something went wrong."""
        self._transport.abort()

    def shut_down(self) -> None:
        """Close: at once when nothing is under way, else after the answer."""
        self.keep_alive = False
        if self._state in (State.IDLE, State.DISCARD, State.FLUSH):
            self._close(linger=False)

    def refuse(self, refused: Refused, head: bytes | None = None) -> None:
        """Respond to what never became a request, and close. `head`: what came of it; None is what is in the buffer."""
        request_id = correlation.new()
        body = problems.body(refused.status, refused.detail, instance="", request_id=request_id)
        origins = self.edge.origins.fields_for(self._buffer if head is None else head)
        fields = [*problems.headers(body, request_id), *refused.headers, *origins]
        self.output.write(responses.head(refused.status, fields, close=True) + body)
        self._close(linger=True)

    # --- from one request to the next ---

    def _next(self) -> None:
        """An answer is on its way: look for the next request."""
        self._state = State.IDLE
        self.deadline = self.edge.loop.time() + KEEP_ALIVE_SECONDS
        self.edge.connections.mark_waiting(self)
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if not self._proceeding and (self._buffer or self._eof):
            self._proceed()

    def _proceed(self, head: bytes | None = None) -> None:
        """Take from the buffer what can be taken, after a `head` that was never there."""
        self._proceeding = True
        try:
            if head is not None:
                self._request(head)
            while self._parse():
                pass
        except Exception:
            # Without this a task that has answered the request before would fail, and this one would never end.
            logger.exception("a connection failed")
            self._transport.abort()
        self._proceeding = False
        if self._eof:
            self._input_ended()

    def _input_ended(self) -> bool:
        """Nothing more comes: refuse what is not whole. Whether anything is still to be sent."""
        if self._state is State.BODY and self._call is not None:
            self._call.interrupt(Refused(400, "The body is shorter than announced.", ((b"connection", b"close"),)))
        elif self._state is State.HEAD:
            self.refuse(Refused(400, "The request ends within its header."))
        elif self._state is not State.WORK and self._state is not State.FLUSH:
            self._close(linger=False)
            return False
        return True

    def _parse(self) -> bool:
        """Take a head or a body; False when more has to come, or it is not the client's turn."""
        if self._state is State.IDLE or self._state is State.HEAD:
            return self._parse_head()
        return self._state in (State.BODY, State.DISCARD) and self._parse_body()

    def _parse_head(self) -> bool:
        buffer = self._buffer
        if self._state is State.IDLE:
            # RFC 9112 2.2: an empty line before a request is passed over; some clients end their bodies with one.
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
        """A head is whole: begin a call."""
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
        """Know where the body ends, whether it is wanted or not."""
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
            raise Refused(413, "Enough.")

    # --- the end ---

    def _close(self, *, linger: bool) -> None:
        """Send what is queued, and close; with `linger` only after the client has, so that it can read its answer."""
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
