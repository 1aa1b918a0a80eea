"""An HTTP/1.1 connection to a service: writes a request and parses the response, with backpressure for slow clients.

It uses a protocol and a future, without streams and tasks: a response that arrives in one piece wakes its reader once.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

import httptools

MAX_BUFFERED = 65_536
"""Bytes of a response that may be buffered for the client before reading from the service is paused."""

MAX_HEADER_BYTES = 65_536
"""The limit of a response header in bytes; a larger one is an invalid response."""

Header = tuple[bytes, bytes]


class UpstreamError(Exception):
    """The exchange with the service failed."""


class NotConnected(UpstreamError):
    """No connection could be established, so nothing was sent."""


class ConnectTimeout(NotConnected):
    """No connection could be established in time, so nothing was sent."""


class ClosedWithoutResponse(UpstreamError):
    """The service closed the connection before the first byte of a response."""


class InvalidResponse(UpstreamError):
    """The service closed the connection within its response, or the response is not valid HTTP."""


class Response:
    """The response of a service. Its body grows while it is read."""

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
        """Called with each interim response, such as 103."""
        self.listener: Callable[[], None] | None = None
        """Called once, instead of waking the waiter, when the response changes."""

    def fail(self, error: Exception) -> None:
        """Record the error for the reader. Only the first error is recorded."""
        if self.error is None:
            self.error = error
            self.wake()

    def wake(self) -> None:
        """Wake the reader."""
        listener = self.listener
        if listener is not None:
            self.listener = None
            listener()
            return
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A connection to a replica, used by one exchange at a time."""

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

    # --- for the pool and the proxy ---

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it."""
        return self._transport is not None and self._response is None and not self._transport.is_closing()

    def begin(
        self,
        data: bytes,
        *,
        complete: bool,
        bodiless: bool,
        interim: Callable[[int, list[Header]], None] | None = None,
    ) -> Response:
        """Send the head of a request with its body. Unless `complete`, the rest of the body follows by `send`.

        With `bodiless` the response has no body regardless of its header, since the request is a HEAD.
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
        """Send the rest of the request as fast as the service accepts it, or until it responds early."""
        for piece in pieces:
            if response.status or response.error is not None or self._transport is None or self._transport.is_closing():
                return
            self._transport.write(piece)
            if self._writable is not None:
                await self._writable
        self._request_sent = True

    async def head(self, response: Response) -> None:
        """Wait for status and headers. Raises UpstreamError."""
        while not response.status and response.error is None:
            await self._more(response)
        if response.error is not None:
            raise response.error

    async def body(self, response: Response) -> bytes:
        """Wait for the next part of the body; empty at its end. Raises UpstreamError."""
        while not response.chunks:
            if response.error is not None:
                raise response.error
            if response.complete:
                return b""
            await self._more(response)
        return self.take(response)

    def take(self, response: Response) -> bytes:
        """The part of the body that has been received, without waiting."""
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
        """End the exchange. Returns whether it was complete, so that the connection can be reused."""
        response = self._response
        self._response = None
        if response is None or not response.complete or not self._keep or not self._request_sent:
            return False
        if self._paused:
            self._resume()
        return True

    def abort(self) -> None:
        """Close immediately, so that the service notices that the response is no longer needed."""
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
        """The connection is established."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse the data, and wake the reader once for all of it."""
        response = self._response
        if response is None or (response.complete and data):
            # Unsolicited data: the connection is out of sync, and the next response could belong to another request.
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
        """The service or the network has closed the connection."""
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
        """The service does not accept more data."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The service accepts data again."""
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    # --- httptools ---

    def on_message_begin(self) -> None:
        """A status line begins: of the response, of an interim response, or of an unsolicited one."""
        self._heads += 1
        response = self._response
        if response is None or response.complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header field. Trailers are discarded, since the gateway does not announce that it accepts them."""
        response = self._response
        if response is None or response.status:
            return
        response.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Determine the framing of the body, and reject ambiguous framing."""
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
        """Store a part of the body, and pause reading while too much is buffered."""
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
        """The response is complete, unless it was an interim one."""
        response = self._response
        if response is not None and response.status and not response.complete:
            response.complete = True
            self._keep = self._parser.should_keep_alive()

    # --- internal ---

    def _skip_body(self, response: Response) -> None:
        # The parser cannot be told that the response to a HEAD ends here, so it is replaced.
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
            # The part that was parsed before the error is not used either.
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
