"""The body of a request: where it ends (RFC 9112 6 and 7), and where it is kept until all of it is here.

A body is complete before a service hears of it, so that no client's speed holds one of the service's threads. What all
bodies together may take of memory is bounded (`room.py`); a body that goes beyond it waits in a file without a name.
"""

import re
from collections.abc import Callable, Iterator
from typing import IO, Protocol

from gateway.edge.room import PIECE, Room, make_file, write
from gateway.problems import Refused

MAX_CHUNK_LINE = 1_024
"""Bytes of the line before a chunk: its size and extensions."""

MAX_EXTENSIONS = 16_384
"""Bytes of all these lines beyond the size itself: nobody here reads extensions."""

MAX_TRAILERS = 8_192
"""Bytes of the fields behind a chunked body, which are dropped."""

MAX_DISCARDED = 4 * 1024 * 1024
"""Bytes that a client may go on sending after it was answered (413, say), so that it gets to read the answer."""

MAX_AHEAD = 65_536
"""Bytes of further requests that are kept while one is being answered; then the client is not read any further."""

_CLOSE = ((b"connection", b"close"),)
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|\"(?:[^\"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e])*\"))?)*"
    % (_TOKEN, _TOKEN)
)
_TRAILER = re.compile(rb"%b:[\t\x20-\x7e\x80-\xff]*" % _TOKEN)

Sink = Callable[[bytes], None]


class Body:
    """What has come of a request's body."""

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
        """Keep the next piece. Raises Refused (503) where a file is needed, and there is no room or it cannot be written."""
        if self._file is None:
            if self._room.reserve_memory(len(piece)):
                self.size += len(piece)
                self._data += piece
                return
            self._spool()
        self._write(piece)

    def whole(self) -> bytes:
        """All of it, of a body that is in memory."""
        return bytes(self._data)

    def pieces(self) -> Iterator[bytes]:
        """All of it, piece by piece, of a body that is in a file; may be read more than once."""
        assert self._file is not None
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece

    def release(self) -> None:
        """It is needed no more."""
        if self._file is not None:
            self._file.close()
            self._room.files -= self.size
        else:
            self._room.memory -= len(self._data)
            self._data = bytearray()

    def _spool(self) -> None:
        """Move what has come to a file."""
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
    """Finds the end of a body in what a client sends."""

    def feed(self, buffer: bytearray, sink: Sink) -> bool:
        """Take from the front of `buffer` what belongs to the body; whether the body ends here. Raises Refused (400)."""


class Sized:
    """A body of so many bytes."""

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
    """A body in chunks; extensions and trailers are checked, bounded and dropped."""

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
        """The bytes of a chunk, and the CRLF behind them; whether it is over."""
        if self._left:
            piece = bytes(buffer[: self._left])
            del buffer[: len(piece)]
            self._left -= len(piece)
            sink(piece)
        if self._left or len(buffer) < 2:
            if buffer and buffer[0] != 0x0D:
                raise _broken()
            return False
        if buffer[:2] != b"\r\n":
            raise _broken()
        del buffer[:2]
        self._in_data = False
        return True

    def _size(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise _broken()
        self._extensions += len(line) - len(match[1])
        if self._extensions > MAX_EXTENSIONS:
            raise Refused(400, f"The chunk extensions are larger than {MAX_EXTENSIONS} bytes.", _CLOSE)
        self._left = int(match[1], 16)
        self._in_data = self._left > 0
        if not self._left:
            self._trailers = 0

    def _trailer(self, line: bytes) -> None:
        assert self._trailers is not None
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS or not _TRAILER.fullmatch(line):
            raise _broken()


def _line(buffer: bytearray, limit: int) -> bytes | None:
    """Take a line from the front of the buffer; None while its end has not come."""
    end = buffer.find(b"\n", 0, limit + 2)
    if end < 0:
        if len(buffer) > limit:
            raise _broken()
        return None
    line = bytes(buffer[: end + 1])
    if not line.endswith(b"\r\n"):
        raise _broken()
    del buffer[: end + 1]
    return line[:-2]


def _broken() -> Refused:
    return Refused(400, "The body is not chunked as RFC 9112 has it.", _CLOSE)


def _no_room() -> Refused:
    headers = ((b"retry-after", b"1"), *_CLOSE)
    return Refused(503, "There is no room for this body at the moment.", headers, reason="no_room")


def too_large(limit: int) -> Refused:
    """The refusal of a body of more than so many bytes."""
    return Refused(413, f"The body is larger than {limit} bytes.")
