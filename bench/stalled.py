"""Response times of the gateway while many clients have stalled in their uploads."""

import contextlib
import http.client
import json
import socket
import time
import uuid
from collections.abc import Iterator

CLIENTS = 200
REQUESTS = 300
SENT = 70_000
"""Bytes sent of each upload: more than a socket buffers, less than Content-Length."""

HEAD = (
    b"POST /api/users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n"
)


@contextlib.contextmanager
def uploads(port: int) -> Iterator[list[socket.socket]]:
    """Clients that have sent a part of their bodies. The gateway rejects them after 30 s."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.sendall(HEAD + b" " * SENT)
            clients.append(client)
        yield clients


def response_times(port: int) -> list[float]:
    """The response times of REQUESTS requests on one connection, two reads per write, in seconds. Raises RuntimeError."""
    seconds = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        for number in range(REQUESTS):
            method, path, body = "GET", "/api/users?limit=1", None
            if number % 3 == 0:
                method, path = "POST", "/api/users"
                body = json.dumps({"email": f"{uuid.uuid4()}@example.org", "name": "A"})
            started = time.perf_counter()
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            seconds.append(time.perf_counter() - started)
            if response.status not in (200, 201):
                raise RuntimeError(f"{method} {path} returned {response.status}")
    return seconds
