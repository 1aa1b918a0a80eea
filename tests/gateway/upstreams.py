"""Small HTTP servers whose behaviour the tests define: correct, incorrect, slow or silent."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

CLOSE = "close"


@dataclass
class Received:
    """A request as received."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    connection: int
    body: bytes = b""
    raw_head: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value


Behave = Callable[["Received", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[str | None]]


def answer(
    body: bytes = b"{}", *, status: str = "200 OK", headers: str = "Content-Type: application/json\r\n"
) -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def sends(*pieces: bytes, then: str | None = None) -> Behave:
    """Behaviour: send these bytes, then keep or CLOSE the connection."""

    async def behave(request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return then

    return behave


async def echo(request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Behaviour: respond with the body of the request, or with its target."""
    body = request.body or request.target.encode()
    writer.write(answer(body if request.method != "HEAD" else b""))


async def hangs(request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Behaviour: send nothing until the gateway closes the connection."""
    await reader.read()
    return CLOSE


async def closes(request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Behaviour: close without a response."""
    return CLOSE


@dataclass
class Upstream:
    """A server in a separate thread."""

    behave: Behave = echo
    reads_body: bool = True
    port: int = 0
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Reset the behaviour and the recorded requests, and close all connections."""
        self.behave, self.reads_body = echo, True
        self.drop_connections()
        self.requests.clear()
        self.connections = 0

    def drop_connections(self) -> None:
        """Close all connections, and wait until they are closed."""

        async def drop() -> None:
            for writer in list(self._writers):
                writer.close()
            while self.open:
                await asyncio.sleep(0.002)

        asyncio.run_coroutine_threadsafe(drop(), self._loop).result(60)

    def stop(self) -> None:
        async def stop() -> None:
            self._server.close()
            for writer in list(self._writers):
                writer.close()

        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(stop(), self._loop).result(60)
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**20, backlog=512)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        self._writers.add(writer)
        try:
            while True:
                request = await self._request(reader, number)
                self.requests.append(request)
                if await self.behave(request, reader, writer) == CLOSE:
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, number: int) -> Received:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        request = Received(method, target, headers, number, raw_head=head)
        if self.reads_body:
            request.body = await body_of(request, reader)
        return request


async def body_of(request: Received, reader: asyncio.StreamReader) -> bytes:
    if request.all("content-length"):
        return await reader.readexactly(int(request["content-length"]))
    if not request.all("transfer-encoding"):
        return b""
    assert request["transfer-encoding"] == "chunked"
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body
