"""Request bodies: finds the end of a body (RFC 9112, 6 and 7) and buffers it until it is complete.

A service receives only complete bodies, so that no slow client blocks one of its threads. The memory of all bodies together
is limited (`room.py`); a body that exceeds the limit is buffered in a temporary file.
"""

import re
from collections.abc import Callable, Iterator
from typing import IO, Protocol

from gateway.edge.room import PIECE, Room, make_file, write
from gateway.problems import Reason, Refused

MAX_CHUNK_LINE = 1_024
"""Limit of the line before a chunk, with its size and extensions, in bytes."""

MAX_EXTENSIONS = 16_384
"""Limit of all chunk extensions of a body, which are ignored, in bytes."""

MAX_TRAILERS = 8_192
"""Limit of the trailers of a chunked body, which are discarded, in bytes."""

MAX_DISCARDED = 4 * 1024 * 1024
"""Bytes that are read from a client after an early response, such as 413, so that it can read the response."""

MAX_AHEAD = 65_536
"""Bytes of pipelined requests that may be buffered before reading from the client is paused."""

_CLOSE = ((b"connection", b"close"),)
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|\"(?:[^\"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e])*\"))?)*"
    % (_TOKEN, _TOKEN)
)
_TRAILER = re.compile(rb"%b:[\t\x20-\x7e\x80-\xff]*" % _TOKEN)

Sink = Callable[[bytes], None]


class Body:
    """The received part of a request body."""

    __slots__ = ("_data", "_file", "_room", "size")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._data = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0

    @property
    def spooled(self) -> bool:
        """Whether it is in a file."""
        return self._file is not None

    def append(self, piece: bytes) -> None:
        """Append the next part. Raises Refused (503) if a file is needed but there is no room for it, or writing fails."""
        if self._file is None:
            if self._room.reserve_memory(len(piece)):
                self.size += len(piece)
                self._data += piece
                return
            self._spool()
        self._write(piece)

    def whole(self) -> bytes:
        """The whole body, if it is in memory."""
        return bytes(self._data)

    def pieces(self) -> Iterator[bytes]:
        """The body in parts, if it is in a file. Can be called more than once."""
        assert self._file is not None
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece

    def release(self) -> None:
        """Release its memory or its file."""
        if self._file is not None:
            self._file.close()
            self._room.files -= self.size
        else:
            self._room.memory -= len(self._data)
            self._data = bytearray()

    def _spool(self) -> None:
        """Move the received part to a file."""
        if not self._room.reserve_file(self.size):
            raise _no_room()
        try:
            file = make_file()
            write(file, bytes(self._data))
        except OSError:
            self._room.files -= self.size
            raise _no_room() from None
        self._file = file
        self._room.memory -= self.size
        self._data = bytearray()

    def _write(self, piece: bytes) -> None:
        assert self._file is not None
        if not self._room.reserve_file(len(piece)):
            raise _no_room()
        self.size += len(piece)
        try:
            write(self._file, piece)
        except OSError:
            raise _no_room() from None


class Framing(Protocol):
    """Finds the end of a body in the data from a client."""

    def feed(self, buffer: bytearray, sink: Sink) -> bool:
        """Move the data of the body from `buffer` to `sink`. Returns whether the body is complete. Raises Refused (400)."""


class Sized:
    """A body of known length."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, buffer: bytearray, sink: Sink) -> bool:
        """See Framing."""
        if len(buffer) <= self._left:
            piece = bytes(buffer)
            buffer.clear()
        else:
            piece = bytes(buffer[: self._left])
            del buffer[: self._left]
        self._left -= len(piece)
        if piece:
            sink(piece)
        return self._left == 0


class Chunked:
    """A chunked body. Extensions and trailers are validated, limited and discarded."""

    __slots__ = ("_extensions", "_in_data", "_left", "_trailers")

    def __init__(self) -> None:
        self._left = 0
        self._in_data = False
        self._extensions = 0
        self._trailers: int | None = None
        """Bytes of trailers so far; None before the last chunk."""

    def feed(self, buffer: bytearray, sink: Sink) -> bool:
        """See Framing."""
        while buffer:
            if self._in_data:
                if not self._data(buffer, sink):
                    return False
                continue
            line = _line(buffer, MAX_CHUNK_LINE if self._trailers is None else MAX_TRAILERS)
            if line is None:
                return False
            if self._trailers is None:
                self._size(line)
            elif not line:
                return True
            else:
                self._trailer(line)
        return False

    def _data(self, buffer: bytearray, sink: Sink) -> bool:
        """Read the data of a chunk and the CRLF after it. Returns whether the chunk is complete."""
        if self._left:
            piece = bytes(buffer[: self._left])
            del buffer[: len(piece)]
            self._left -= len(piece)
            sink(piece)
        if self._left or len(buffer) < 2:
            if buffer and buffer[0] != 0x0D:
                raise _malformed()
            return False
        if buffer[:2] != b"\r\n":
            raise _malformed()
        del buffer[:2]
        self._in_data = False
        return True

    def _size(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise _malformed()
        self._extensions += len(line) - len(match[1])
        if self._extensions > MAX_EXTENSIONS:
            raise Refused(
                400,
                f"The chunk extensions are larger than {MAX_EXTENSIONS} bytes.",
                _CLOSE,
                reason=Reason.INVALID_BODY,
            )
        self._left = int(match[1], 16)
        self._in_data = self._left > 0
        if not self._left:
            self._trailers = 0

    def _trailer(self, line: bytes) -> None:
        assert self._trailers is not None
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS or not _TRAILER.fullmatch(line):
            raise _malformed()


def _line(buffer: bytearray, limit: int) -> bytes | None:
    """Remove a line from the front of the buffer; None if it is incomplete."""
    end = buffer.find(b"\n", 0, limit + 2)
    if end < 0:
        if len(buffer) > limit:
            raise _malformed()
        return None
    line = bytes(buffer[: end + 1])
    if not line.endswith(b"\r\n"):
        raise _malformed()
    del buffer[: end + 1]
    return line[:-2]


def _malformed() -> Refused:
    return Refused(400, "The chunked body is malformed (RFC 9112).", _CLOSE, reason=Reason.INVALID_BODY)


def _no_room() -> Refused:
    headers = ((b"retry-after", b"1"), *_CLOSE)
    return Refused(503, "There is currently no capacity for this body.", headers, reason=Reason.NO_ROOM)


def too_large(limit: int) -> Refused:
    """The error for a body that exceeds the limit."""
    return Refused(413, f"The body is larger than {limit} bytes.", reason=Reason.BODY_TOO_LARGE)
