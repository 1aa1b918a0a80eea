"""An answer's body on its way to a client that may read it more slowly than its service sends it.

A service's thread is held until the last byte of its answer is taken from it. So that is done at the service's speed,
and what the client does not take yet is kept here: in memory, and beyond what all bodies may take of that, in a file
without a name. Only where neither has room is the service held back.
"""

import asyncio
from collections import deque
from typing import IO

from gateway.edge.output import Output
from gateway.edge.room import PIECE, Room, make_file, write


class Spool:
    """Bytes, taken out in the order in which they were put in."""

    __slots__ = ("_file", "_pieces", "_read", "_room", "_surplus", "_written")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._pieces: deque[bytes] = deque()
        self._file: IO[bytes] | None = None
        """What came when there was no room in memory, and all that came after that."""
        self._read = 0
        self._written = 0
        self._surplus = b""
        """What found no room at all."""

    def __bool__(self) -> bool:
        return bool(self._pieces) or self._written > self._read or bool(self._surplus)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be put in until it is empty."""
        return bool(self._surplus)

    def put(self, data: bytes) -> None:
        """Keep the next bytes."""
        if self._surplus:
            self._surplus += data
        elif not self._written and self._room.reserve_memory(len(data)):
            self._pieces.append(data)
        elif not self._spool(data):
            self._surplus = data

    def take(self) -> bytes:
        """The next bytes; empty when there are none. Raises OSError."""
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
        piece, self._surplus = self._surplus, b""
        return piece

    def clear(self) -> None:
        """Forget what is left."""
        self._room.memory -= sum(map(len, self._pieces))
        self._pieces.clear()
        self._surplus = b""
        self._drop_file()

    def _spool(self, data: bytes) -> bool:
        """Append to the file; False where there is no room in it."""
        if not self._room.reserve_file(len(data)):
            return False
        try:
            if self._file is None:
                self._file = make_file()
            self._file.seek(self._written)
            write(self._file, data)
        except OSError:
            # The disk is full: what was written of this does not count, and is written over.
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
    """Gives a client what was sent to it as fast as it takes it; whoever sends does not wait for that."""

    __slots__ = ("_error", "_output", "_spool", "_waiter", "_waits_for_client")

    def __init__(self, output: Output, room: Room) -> None:
        self._output = output
        self._spool = Spool(room)
        self._waiter: asyncio.Future[None] | None = None
        self._waits_for_client = False
        self._error: OSError | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the client has been given all of it."""
        return not self._spool

    async def send(self, data: bytes) -> None:
        """Send the next bytes: now, or when the client takes them. Waits only where there is no room to keep them.

        Raises OSError when what is kept in a file cannot be read.
        """
        if not self._spool and self._output.is_writable:
            self._output.write(data)
            return
        self._spool.put(data)
        self._pump()
        while self._spool.is_full:
            await self._wait()

    async def sent(self) -> None:
        """Wait until the client has taken what is kept. Raises OSError."""
        while self._spool:
            await self._wait()

    def close(self) -> None:
        """Nothing more is sent: forget what is kept."""
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
        """Write what the client takes, and come back when it takes more."""
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
