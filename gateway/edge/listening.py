"""The listeners, and the state that all connections share."""

import asyncio
import socket
from typing import Protocol

from gateway.call import Call
from gateway.edge.client import Client
from gateway.edge.connections import Connections
from gateway.edge.room import Room
from gateway.origins import Origins
from gateway.problems import Refused
from gateway.watch import Watch

BACKLOG = 2048


class Application(Protocol):
    """The application that handles requests."""

    def accept(self, call: Call) -> None:
        """Select a handler for the call, and let it examine the head. Sets `call.handler` even if it raises Refused."""

    def rejected(self, refused: Refused, request_id: str) -> None:
        """A connection was rejected, or what it sent is not a request: record the response."""


class Edge:
    """Listens, and holds the shared state of connections. `timeout` limits a request with its response, in seconds."""

    def __init__(
        self,
        application: Application,
        *,
        connections: Connections,
        room: Room,
        watch: Watch,
        origins: Origins,
        timeout: float,
    ) -> None:
        self.application = application
        self.connections = connections
        self.room = room
        self.watch = watch
        self.origins = origins
        self.timeout = timeout
        self.loop = asyncio.get_running_loop()
        self.address = ("", 0)
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int, *, internal: bool = False) -> None:
        """Accept connections at an address; `::` means every address, including IPv4. Raises OSError.

        Only `internal` listeners serve metrics and readiness.
        """
        self.address = (host, port)
        factory = lambda: Client(self, internal=internal)  # noqa: E731
        if host == "::":
            sock = _every_address(port)
            self._servers.append(await self.loop.create_server(factory, sock=sock, backlog=BACKLOG))
        else:
            self._servers.append(await self.loop.create_server(factory, host, port, backlog=BACKLOG))

    def stop_listening(self) -> None:
        """Stop accepting connections."""
        for server in self._servers:
            server.close()

    def shut_down(self) -> None:
        """Close idle connections immediately, and the others after their response."""
        for client in self.connections.snapshot():
            client.shut_down()

    def abort(self) -> None:
        """Close all connections immediately."""
        self.connections.close()
        for client in self.connections.snapshot():
            client.abort()


def _every_address(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)
