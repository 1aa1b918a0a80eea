"""Response bodies for clients that may read more slowly than the service sends.

A thread of the service is blocked until its whole response has been read. Therefore responses are read at the speed of the
service and buffered for the client: in memory, and beyond the limit of all bodies, in a temporary file. Only if there is no
room in either, the service has to wait.
"""

import asyncio
from collections import deque
from typing import IO

from gateway.edge.output import Output
from gateway.edge.room import PIECE, Room, make_file, write


class Spool:
    """A FIFO buffer of bytes, in memory and in a file."""

    __slots__ = ("_file", "_overflow", "_pieces", "_read", "_room", "_written")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._pieces: deque[bytes] = deque()
        self._file: IO[bytes] | None = None
        """The data after memory was exhausted."""
        self._read = 0
        self._written = 0
        self._overflow = b""
        """Data for which there was no room at all."""

    def __bool__(self) -> bool:
        return bool(self._pieces) or self._written > self._read or bool(self._overflow)

    @property
    def is_full(self) -> bool:
        """Whether the writer should wait until the buffer is empty."""
        return bool(self._overflow)

    def put(self, data: bytes) -> None:
        """Append bytes."""
        if self._overflow:
            self._overflow += data
        elif not self._written and self._room.reserve_memory(len(data)):
            self._pieces.append(data)
        elif not self._append_to_file(data):
            self._overflow = data

    def take(self) -> bytes:
        """Remove and return the next bytes; empty if there are none. Raises OSError."""
        if self._pieces:
            piece = self._pieces.popleft()
            self._room.memory -= len(piece)
            return piece
        if self._file is not None and self._written > self._read:
            self._file.seek(self._read)
            piece = self._file.read(min(PIECE, self._written - self._read))
            self._read += len(piece)
            if self._read == self._written:
                self._drop_file()
            return piece
        piece, self._overflow = self._overflow, b""
        return piece

    def clear(self) -> None:
        """Discard the content."""
        self._room.memory -= sum(map(len, self._pieces))
        self._pieces.clear()
        self._overflow = b""
        self._drop_file()

    def _append_to_file(self, data: bytes) -> bool:
        """Append to the file. Returns False if there is no room."""
        if not self._room.reserve_file(len(data)):
            return False
        try:
            if self._file is None:
                self._file = make_file()
            self._file.seek(self._written)
            write(self._file, data)
        except OSError:
            # The disk is full. A partial write is not counted, and will be overwritten.
            self._room.files -= len(data)
            return False
        self._written += len(data)
        return True

    def _drop_file(self) -> None:
        self._room.files -= self._written
        self._read = self._written = 0
        if self._file is not None:
            self._file.close()
            self._file = None


class Outgoing:
    """Sends data to a client as fast as it reads, without making the sender wait."""

    __slots__ = ("_error", "_output", "_spool", "_waiter", "_waits_for_client")

    def __init__(self, output: Output, room: Room) -> None:
        self._output = output
        self._spool = Spool(room)
        self._waiter: asyncio.Future[None] | None = None
        self._waits_for_client = False
        self._error: OSError | None = None

    @property
    def is_empty(self) -> bool:
        """Whether everything has been written to the client."""
        return not self._spool

    async def send(self, data: bytes) -> None:
        """Send bytes now, or when the client accepts them. Waits only if there is no room to buffer them.

        Raises OSError if the file cannot be read.
        """
        if not self._spool and self._output.is_writable:
            self._output.write(data)
            return
        self._spool.put(data)
        self._pump()
        while self._spool.is_full:
            await self._wait()

    async def sent(self) -> None:
        """Wait until all buffered data has been written to the client. Raises OSError."""
        while self._spool:
            await self._wait()

    def close(self) -> None:
        """Stop sending, and discard the buffer."""
        self._spool.clear()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _pump(self) -> None:
        """Write as much as the client accepts, and continue when it accepts more."""
        try:
            while self._spool and self._output.is_writable:
                self._output.write(self._spool.take())
        except OSError as error:
            self._error = error
        if self._error is None and self._spool:
            if not self._waits_for_client:
                self._waits_for_client = True
                self._output.when_writable(self._resumed)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _resumed(self, _: object) -> None:
        self._waits_for_client = False
        self._pump()
