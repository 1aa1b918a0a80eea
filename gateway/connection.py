"""One HTTP/1.1 connection to a service: writes a request, parses the answer, holds back what a client is too slow for.

A protocol and a future, no streams and no tasks: an answer that comes in one piece wakes its reader once.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

import httptools

MOST_BUFFERED = 65_536
"""Bytes of an answer that wait for the client; then the service is not read any further."""

MOST_HEADER_BYTES = 65_536
"""A service that sends more header than this is broken."""

Header = tuple[bytes, bytes]


class UpstreamError(Exception):
    """The exchange with the service failed."""


class NotConnected(UpstreamError):
    """No connection could be made, so nothing was sent."""


class ConnectTimeout(NotConnected):
    """No connection could be made in time, so nothing was sent."""


class ClosedUnanswered(UpstreamError):
    """The service closed the connection before the first byte of an answer."""


class BrokenAnswer(UpstreamError):
    """The service closed in the middle of its answer, or sent what is not HTTP."""


class Answer:
    """What the service answers; its body grows while it is read."""

    __slots__ = (
        "bodiless",
        "buffered",
        "chunks",
        "complete",
        "error",
        "head_bytes",
        "headers",
        "interim",
        "listener",
        "sized",
        "status",
        "until_eof",
        "waiter",
    )

    def __init__(self, *, bodiless: bool) -> None:
        self.bodiless = bodiless
        self.status = 0
        self.headers: list[Header] = []
        self.head_bytes = 0
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.sized = False
        self.until_eof = False
        self.complete = False
        self.error: Exception | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.interim: Callable[[int, list[Header]], None] | None = None
        """Takes interim answers (103, say) as they come."""
        self.listener: Callable[[], None] | None = None
        """Called once, instead of waking the waiter, when there is something to be seen."""

    def fail(self, error: Exception) -> None:
        """Let the reader find `error` where the answer should have gone on; the first one stands."""
        if self.error is None:
            self.error = error
            self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        listener = self.listener
        if listener is not None:
            self.listener = None
            listener()
            return
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A connection to one replica; carries one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._heads = 0
        self._paused = False
        self._writable: asyncio.Future[None] | None = None
        self._request_sent = True
        self._keep = False
        self.idle_since = 0.0

    # --- what the pool and the proxy use ---

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and self._answer is None and not self._transport.is_closing()

    def begin(
        self,
        data: bytes,
        *,
        complete: bool,
        bodiless: bool,
        interim: Callable[[int, list[Header]], None] | None = None,
    ) -> Answer:
        """Send the head of a request with its body; `complete` says that this is all of it, else `send` follows.

        `bodiless`: the answer has no body whatever its header says, as the request is a HEAD.
        """
        answer = self._answer = Answer(bodiless=bodiless)
        answer.interim = interim
        self._heads = 0
        self._keep = False
        self._request_sent = complete
        if self._transport is None or self._transport.is_closing():
            answer.fail(ClosedUnanswered())
        else:
            self._transport.write(data)
        return answer

    async def send(self, pieces: Iterable[bytes], answer: Answer) -> None:
        """Send the rest of the request as fast as the service takes it, or until it answers without having it all."""
        for piece in pieces:
            if answer.status or answer.error is not None or self._transport is None or self._transport.is_closing():
                return
            self._transport.write(piece)
            if self._writable is not None:
                await self._writable
        self._request_sent = True

    async def head(self, answer: Answer) -> None:
        """Wait until status and headers are there. Raises UpstreamError."""
        while not answer.status and answer.error is None:
            await self._more(answer)
        if answer.error is not None:
            raise answer.error

    async def body(self, answer: Answer) -> bytes:
        """The next piece of the body, all that is there; empty at its end. Raises UpstreamError."""
        while not answer.chunks:
            if answer.error is not None:
                raise answer.error
            if answer.complete:
                return b""
            await self._more(answer)
        return self.take(answer)

    def take(self, answer: Answer) -> bytes:
        """All of the body that is there now, without waiting."""
        chunks = answer.chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        answer.chunks = []
        answer.buffered = 0
        if self._paused:
            self._resume()
        return data

    def finished(self) -> bool:
        """Whether the exchange is over and the connection can carry another; ends the exchange."""
        answer = self._answer
        self._answer = None
        if answer is None or not answer.complete or not self._keep or not self._request_sent:
            return False
        if self._paused:
            self._resume()
        return True

    def abort(self) -> None:
        """Close at once, whatever is under way: the service sees that nobody waits any more."""
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    async def _more(self, answer: Answer) -> None:
        answer.waiter = self._loop.create_future()
        try:
            await answer.waiter
        finally:
            answer.waiter = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; wake the reader once for all of it."""
        answer = self._answer
        if answer is None or (answer.complete and data):
            # Nobody asked for this: the connection is out of step, and the next answer on it could be another's.
            self._keep = False
            self._close()
            return
        if not answer.status:
            answer.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broken(answer)
        if answer.status or answer.error is not None:
            if not self._request_sent:
                self.resume_writing()
            answer.wake()
        elif answer.head_bytes > MOST_HEADER_BYTES:
            self._broken(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The service has closed, or the network has."""
        answer = self._answer
        if answer is not None and not answer.complete:
            if answer.until_eof and exc is None and answer.error is None:
                answer.complete = True
                answer.wake()
            else:
                started = self._heads or answer.status
                answer.fail(BrokenAnswer() if started else ClosedUnanswered())
        self._transport = None
        self.resume_writing()

    def pause_writing(self) -> None:
        """The service does not take what we send."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """It does again."""
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    # --- httptools ---

    def on_message_begin(self) -> None:
        """A status line begins: of the answer, of an interim one before it, or of one that nobody asked for."""
        self._heads += 1
        answer = self._answer
        if answer is None or answer.complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those after the body (trailers) are dropped, as nobody is told that we would take them."""
        answer = self._answer
        if answer is None or answer.status:
            return
        answer.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Find out how the body is framed; refuse what two readers could read in two ways."""
        answer = self._answer
        if answer is None or answer.complete:
            return
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            if status != 100 and answer.interim is not None:
                answer.interim(status, answer.headers)
            answer.headers.clear()
            return
        if status == 101 or status > 599:
            raise BrokenAnswer
        if answer.head_bytes > MOST_HEADER_BYTES and _size(answer.headers) > MOST_HEADER_BYTES:
            raise BrokenAnswer
        length, coding = _framing(answer.headers)
        if coding is not None and coding.lower() != b"chunked":
            raise BrokenAnswer
        if answer.bodiless:
            self._skip_body(answer)
        elif length is None and coding is None and status not in (204, 304):
            answer.until_eof = True
        answer.sized = length is not None
        answer.status = status

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body; too much of it stops the reading until the client has taken it."""
        answer = self._answer
        if answer is None or answer.complete:
            self._keep = False
            return
        answer.chunks.append(body)
        answer.buffered += len(body)
        if answer.buffered > MOST_BUFFERED and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        answer = self._answer
        if answer is not None and answer.status and not answer.complete:
            answer.complete = True
            self._keep = self._parser.should_keep_alive()

    # --- within ---

    def _skip_body(self, answer: Answer) -> None:
        # The parser cannot be told that a HEAD's answer ends here, so it is replaced by a new one.
        self._keep = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        answer.complete = True

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _broken(self, answer: Answer) -> None:
        self._keep = False
        if not answer.complete:
            # What was read of a broken answer is not believed either.
            answer.fail(BrokenAnswer())
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _framing(headers: list[Header]) -> tuple[bytes | None, bytes | None]:
    length = coding = None
    for name, value in headers:
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            coding = value if coding is None else b"several"
    return length, coding


def _size(headers: list[Header]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
