"""TCP links that can be cut, frozen and slowed: a small proxy of our own, in a thread with its own event loop.

It stands between each service and its database, between each service and Kafka, and between the gateways and the
services, so that one client can lose its server while all others keep theirs. What toxiproxy would do, without a
program that is not a Python package.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

from embedded.ports import HOST

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 s: closing sends RST, as a middlebox that has lost its state does."""


class Link:
    """One listening port whose connections lead to another. Its methods may be called from any thread."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, port: int, target: int) -> None:
        """Lead from `port` to `target`, both on this machine."""
        self.name = name
        self.port = port
        self._target = target
        self._loop = loop
        self._open = True
        self._delay = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Take connections from now on."""
        await asyncio.start_server(self._serve, HOST, self.port, limit=CHUNK)

    def cut(self) -> None:
        """Reset all connections and every new one, until `heal`."""
        self._soon(self._cut)

    def reset(self) -> None:
        """Reset all connections; new ones are welcome."""
        self._soon(self._reset)

    def hang(self) -> None:
        """Pass nothing on until `heal`: connections stay open and nothing comes."""
        self._soon(self._flows.clear)

    def slow(self, seconds: float = 0.2) -> None:
        """Hold back each piece that long, both ways, until `heal`."""
        self._soon(lambda: self._slow(seconds))

    def lead_to(self, target: int) -> None:
        """Lead to another port from now on; connections that are open stay where they are."""
        self._soon(lambda: setattr(self, "_target", target))

    def heal(self) -> None:
        """Be a good link again. What was held back arrives."""
        self._soon(self._heal)

    def _soon(self, action: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _cut(self) -> None:
        self._open = False
        self._reset()

    def _reset(self) -> None:
        for writer in list(self._writers):
            _abort(writer)

    def _slow(self, seconds: float) -> None:
        self._delay = seconds

    def _heal(self) -> None:
        self._open, self._delay = True, 0.0
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            _abort(writer)
            return
        try:
            there, back = await asyncio.open_connection(HOST, self._target, limit=CHUNK)
        except OSError:
            _abort(writer)
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._writers -= {writer, back}
            writer.close()
            back.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        # One end is gone, so the other is told at once; neither PostgreSQL, Kafka nor HTTP half-closes.
        writer.close()


class Links:
    """The thread that all links live in; use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def add(self, name: str, port: int, target: int) -> Link:
        """A link from `port`, which must be free, to `target`."""
        link = Link(name, self._loop, port, target)
        asyncio.run_coroutine_threadsafe(link.listen(), self._loop).result(10)
        return link


def _abort(writer: asyncio.StreamWriter) -> None:
    link = writer.get_extra_info("socket")
    if link is not None:
        with contextlib.suppress(OSError):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
