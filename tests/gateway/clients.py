"""Clients for the gateway that send exact bytes over a socket, since libraries would not send invalid requests."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded import ports
from embedded.forks.child import Forked
from embedded.processes import drive
from tests.json_lines import JsonLines

REQUESTS = "http_server_request_duration_seconds_count"

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Answer:
    """A response of the gateway."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reader:
    """A reader of responses for http.client, which would otherwise lose buffered data of the next response."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def makefile(self, mode: str) -> "Reader":
        return self

    def close(self) -> None:
        """Do nothing, since another response may follow."""

    def end(self) -> None:
        """Close the file, which would otherwise keep the socket open."""
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Client:
    """A connection to the gateway."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.reader = Reader(self.socket)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.end()
        self.socket.close()

    def send(self, data: bytes) -> "Client":
        self.socket.sendall(data)
        return self

    def answer(self, method: str = "GET") -> Answer:
        """Read a response. Raises http.client.IncompleteRead if it is incomplete."""
        response = http.client.HTTPResponse(self.reader, method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        return Answer(response.status, response.getheaders(), body)

    def closed(self) -> bool:
        """Whether the gateway closes the connection without sending anything."""
        with contextlib.suppress(ConnectionError):
            return self.reader.read(1) == b""
        return True


def request(method: str, target: str, *headers: str, body: bytes = b"", host: str = "localhost") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass
class Gateway:
    """A running gateway."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def __post_init__(self) -> None:
        self._lines = JsonLines(self.log)

    def connect(self, timeout: float = 10.0) -> Client:
        return Client(self.port, timeout)

    def ask(self, method: str, target: str, *headers: str, body: bytes = b"", host: str = "localhost") -> Answer:
        """Send a request on a new connection."""
        with self.connect() as client:
            return client.send(request(method, target, *headers, body=body, host=host)).answer(method)

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and read until the gateway closes the connection."""
        with self.connect() as client:
            client.send(data)
            received = b""
            with contextlib.suppress(ConnectionError):
                while piece := client.socket.recv(65_536):
                    received += piece
            return received

    def log_lines(self) -> list[dict[str, Any]]:
        return self._lines.read()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series with these labels; 0 if there are none."""
        text = self.ask("GET", "/metrics").body.decode()
        found = (re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line) for line in text.splitlines())
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(match[3])
            for match in found
            if match and match[1] == name and all(label in (match[2] or "") for label in wanted)
        )

    def memory(self) -> int:
        """The resident memory, in bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    folder: Path, *, command: tuple[str, ...] = ("manage.py", "serve", "--port", "PORT"), **variables: str
) -> Iterator[Gateway]:
    """Run a gateway in its own process, as in production, with these environment variables."""
    port = free_port()
    log = folder / f"gateway-{port}.log"
    environment = {
        "PATH": os.environ["PATH"],
        "ENVIRONMENT": "development",
        "LOG_FORMAT": "json",
        "DJANGO_SETTINGS_MODULE": "settings.gateway",
        "GATEWAY_DRAIN_SECONDS": "0",
        # Upstreams receive the requests of the tests, and no others.
        "GATEWAY_CHECK_EVERY_SECONDS": "0",
        **variables,
    }
    arguments = [part.replace("PORT", str(port)) for part in command]
    child = Forked([sys.executable, *arguments], log=log, name="gateway", cwd=ROOT, env=environment)
    try:
        drive(child.until(lambda: ports.listens(port), within=60))
        yield Gateway(child.popen, port, log)
    finally:
        child.stop(grace=60)
