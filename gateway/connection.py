"""One HTTP/1.1 connection to a service: writes a request, parses the response, holds back what a client is too slow for.

A protocol and a future, no streams and no tasks: an answer that comes in one piece wakes its reader once.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

import httptools

MAX_BUFFERED = 65_536
"""Bytes of an answer that wait for the client; then the service is not read any further."""

MAX_HEADER_BYTES = 65_536
"""A service that sends more header than this is broken."""

Header = tuple[bytes, bytes]


class UpstreamError(Exception):
    """The exchange with the service failed."""


class NotConnected(UpstreamError):
    """No connection could be made, so nothing was sent."""


class ConnectTimeout(NotConnected):
    """No connection could be made in time, so nothing was sent."""


class ClosedWithoutResponse(UpstreamError):
    """The service closed the connection before the first byte of a response."""


class InvalidResponse(UpstreamError):
    """The service closed in the middle of its response, or sent what is not HTTP."""


class Response:
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
        self._response: Response | None = None
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
        return self._transport is not None and self._response is None and not self._transport.is_closing()

    def begin(
        self,
        data: bytes,
        *,
        complete: bool,
        bodiless: bool,
        interim: Callable[[int, list[Header]], None] | None = None,
    ) -> Response:
        """Send the head of a request with its body; `complete` says that this is all of it, else `send` follows.

        `bodiless`: the answer has no body whatever its header says, as the request is a HEAD.
        """
        response = self._response = Response(bodiless=bodiless)
        response.interim = interim
        self._heads = 0
        self._keep = False
        self._request_sent = complete
        if self._transport is None or self._transport.is_closing():
            response.fail(ClosedWithoutResponse())
        else:
            self._transport.write(data)
        return response

    async def send(self, pieces: Iterable[bytes], response: Response) -> None:
        """Send the rest of the request as fast as the service takes it, or until it answers without having it all."""
        for piece in pieces:
            if response.status or response.error is not None or self._transport is None or self._transport.is_closing():
                return
            self._transport.write(piece)
            if self._writable is not None:
                await self._writable
        self._request_sent = True

    async def head(self, response: Response) -> None:
        """Wait until status and headers are there. Raises UpstreamError."""
        while not response.status and response.error is None:
            await self._more(response)
        if response.error is not None:
            raise response.error

    async def body(self, response: Response) -> bytes:
        """The next piece of the body, all that is there; empty at its end. Raises UpstreamError."""
        while not response.chunks:
            if response.error is not None:
                raise response.error
            if response.complete:
                return b""
            await self._more(response)
        return self.take(response)

    def take(self, response: Response) -> bytes:
        """All of the body that is there now, without waiting."""
        chunks = response.chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        response.chunks = []
        response.buffered = 0
        if self._paused:
            self._resume()
        return data

    def finished(self) -> bool:
        """Whether the exchange is over and the connection can carry another; ends the exchange."""
        response = self._response
        self._response = None
        if response is None or not response.complete or not self._keep or not self._request_sent:
            return False
        if self._paused:
            self._resume()
        return True

    def abort(self) -> None:
        """Close at once, whatever is under way: the service sees that nobody waits any more."""
        self._response = None
        if self._transport is not None:
            self._transport.abort()

    async def _more(self, response: Response) -> None:
        response.waiter = self._loop.create_future()
        try:
            await response.waiter
        finally:
            response.waiter = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; wake the reader once for all of it."""
        response = self._response
        if response is None or (response.complete and data):
            # Nobody asked for this: the connection is out of step, and the next answer on it could be another's.
            self._keep = False
            self._close()
            return
        if not response.status:
            response.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broken(response)
        if response.status or response.error is not None:
            if not self._request_sent:
                self.resume_writing()
            response.wake()
        elif response.head_bytes > MAX_HEADER_BYTES:
            self._broken(response)

    def connection_lost(self, exc: Exception | None) -> None:
        """The service has closed, or the network has."""
        response = self._response
        if response is not None and not response.complete:
            if response.until_eof and exc is None and response.error is None:
                response.complete = True
                response.wake()
            else:
                started = self._heads or response.status
                response.fail(InvalidResponse() if started else ClosedWithoutResponse())
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
        """A status line begins: of the response, of an interim one before it, or of one that nobody asked for."""
        self._heads += 1
        response = self._response
        if response is None or response.complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those after the body (trailers) are dropped, as nobody is told that we would take them."""
        response = self._response
        if response is None or response.status:
            return
        response.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Find out how the body is framed; refuse what two readers could read in two ways."""
        response = self._response
        if response is None or response.complete:
            return
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            if status != 100 and response.interim is not None:
                response.interim(status, response.headers)
            response.headers.clear()
            return
        if status == 101 or status > 599:
            raise InvalidResponse
        if response.head_bytes > MAX_HEADER_BYTES and _size(response.headers) > MAX_HEADER_BYTES:
            raise InvalidResponse
        length, coding = _framing(response.headers)
        if coding is not None and coding.lower() != b"chunked":
            raise InvalidResponse
        if response.bodiless:
            self._skip_body(response)
        elif length is None and coding is None and status not in (204, 304):
            response.until_eof = True
        response.sized = length is not None
        response.status = status

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body; too much of it stops the reading until the client has taken it."""
        response = self._response
        if response is None or response.complete:
            self._keep = False
            return
        response.chunks.append(body)
        response.buffered += len(body)
        if response.buffered > MAX_BUFFERED and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The response is whole, unless it was an interim one."""
        response = self._response
        if response is not None and response.status and not response.complete:
            response.complete = True
            self._keep = self._parser.should_keep_alive()

    # --- within ---

    def _skip_body(self, response: Response) -> None:
        # The parser cannot be told that a HEAD's answer ends here, so it is replaced by a new one.
        self._keep = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        response.complete = True

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _broken(self, response: Response) -> None:
        self._keep = False
        if not response.complete:
            # What was read of a broken response is not believed either.
            response.fail(InvalidResponse())
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
