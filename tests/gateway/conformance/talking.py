"""Sends exact bytes, and reads every answer that comes back."""

import contextlib
import socket
from dataclasses import dataclass

from tests.gateway.clients import Gateway


@dataclass(frozen=True)
class Told:
    """One answer, or interim answer."""

    status: int
    type: str
    body: bytes


def exchange(gateway: Gateway, data: bytes) -> list[Told]:
    """Say this and nothing more; all answers in order. Raises AssertionError for what is no answer."""
    with gateway.connect() as client:
        received = b""
        with contextlib.suppress(ConnectionError):
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := client.socket.recv(65_536):
                received += piece
    # That it may go on, the gateway says for more than one reason, and more or less in time.
    return [answer for answer in answers(received, heads=data.startswith(b"HEAD ")) if answer.status != 100]


def answers(received: bytes, *, heads: bool = False) -> list[Told]:
    """Take the answers apart. `heads`: the first one answers a HEAD, and has no body."""
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
        found.append(Told(int(status), fields.get("content-type", ""), rest[:size]))
        received = rest[size:]
    return found
