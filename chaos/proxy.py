"""TCP links that can be cut, suspended and slowed down: a small proxy, in a thread with its own event loop.

Links connect each service to its database, each service to Kafka, and the gateways to the services, so that one client
can lose its server while all others keep theirs. They replace toxiproxy, which is not a Python package.
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
"""SO_LINGER with 0 s: closing sends RST, like a middlebox that has lost its state."""


class Link:
    """Forwards the connections of a port to another. Its methods can be called from any thread."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, port: int, target: int) -> None:
        """Forward from `port` to `target`, both on this machine."""
        self.name = name
        self.port = port
        self._target = target
        self._loop = loop
        self._open = True
        self._delay = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Accept connections from now on."""
        await asyncio.start_server(self._serve, HOST, self.port, limit=CHUNK)

    def cut(self) -> None:
        """Reset all connections, and every new one until `heal`."""
        self._schedule(self._cut)

    def reset(self) -> None:
        """Reset all connections; new ones are accepted."""
        self._schedule(self._reset)

    def hang(self) -> None:
        """Forward nothing until `heal`: connections stay open but silent."""
        self._schedule(self._flowing.clear)

    def slow(self, seconds: float = 0.2) -> None:
        """Delay all data by this time, in both directions, until `heal`."""
        self._schedule(lambda: self._slow(seconds))

    def redirect(self, target: int) -> None:
        """Forward new connections to another port; open connections stay."""
        self._schedule(lambda: setattr(self, "_target", target))

    def heal(self) -> None:
        """Work normally again. Delayed data is delivered."""
        self._schedule(self._heal)

    def _schedule(self, action: Callable[[], None]) -> None:
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
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            _abort(writer)
            return
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._target, limit=CHUNK)
        except OSError:
            _abort(writer)
            return
        self._writers |= {writer, upstream_writer}
        try:
            await asyncio.gather(self._pump(reader, upstream_writer), self._pump(upstream_reader, writer))
        finally:
            self._writers -= {writer, upstream_writer}
            writer.close()
            upstream_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        # One end has closed, so close the other: PostgreSQL, Kafka and HTTP do not half-close.
        writer.close()


class Links:
    """The thread of all links; use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _close(self) -> None:
        """End all connections, so that none is open when the loop ends."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, name: str, port: int, target: int) -> Link:
        """A link from `port`, which must be free, to `target`."""
        link = Link(name, self._loop, port, target)
        asyncio.run_coroutine_threadsafe(link.listen(), self._loop).result(10)
        return link


def _abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
