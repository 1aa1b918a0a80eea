"""Sends exact bytes, and reads all responses."""

import contextlib
import socket
from dataclasses import dataclass

from tests.gateway.clients import Gateway


@dataclass(frozen=True)
class Response:
    """A response, final or interim."""

    status: int
    type: str
    body: bytes


def exchange(gateway: Gateway, data: bytes) -> list[Response]:
    """Send these bytes and half-close. Returns all responses in order. Raises AssertionError for an invalid response."""
    with gateway.connect() as client:
        received = b""
        with contextlib.suppress(ConnectionError):
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := client.socket.recv(65_536):
                received += piece
    # 100 Continue is sent for several reasons, and its timing varies.
    return [one for one in responses(received, heads=data.startswith(b"HEAD ")) if one.status != 100]


def responses(received: bytes, *, heads: bool = False) -> list[Response]:
    """Parse responses. With `heads` the first one is the response to a HEAD, without a body."""
    found = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert end, received
        start, *lines = head.decode("latin-1").split("\r\n")
        version, status = start.split(" ")[:2]
        assert version == "HTTP/1.1", received
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = 0 if int(status) < 200 or (heads and not found) else int(fields.get("content-length", 0))
        assert len(rest) >= size, received
        found.append(Response(int(status), fields.get("content-type", ""), rest[:size]))
        received = rest[size:]
    return found
