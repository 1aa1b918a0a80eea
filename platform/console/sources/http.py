"""HTTP requests to the processes of the system: JSON and text, small, with a time limit, and with kept connections."""

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

MOST_BYTES = 32 * 1024 * 1024
"""Maximum size of a response."""


class NoAnswer(Exception):
    """The process did not respond in time, or not as HTTP; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body as JSON. Raises NoAnswer if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise NoAnswer(f"responded {self.status} with something else than JSON") from None


@dataclass(frozen=True, slots=True)
class Lines:
    """A response whose lines are read as they arrive."""

    status: int
    lines: Iterator[bytes]


class Client:
    """A process at a base URL. Each thread keeps a connection of its own.

    The process may close a kept connection just as it is used, for example when it restarts. A read is therefore sent again,
    once; a write is never sent again, and uses a new connection.
    """

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._timeout = timeout
        self._local = threading.local()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send a request, `body` as JSON; `timeout` is in seconds. Raises NoAnswer."""
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        data = None if body is None else json.dumps(body).encode()
        fields = {**({"Content-Type": "application/json"} if data is not None else {}), **(headers or {})}
        is_read = method in {"GET", "HEAD"}
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None) if is_read else None
        if kept is not None:
            try:
                return self._exchange(kept, method, target, data, fields, timeout)
            except TimeoutError as error:
                self.close()
                raise NoAnswer(_reason(error)) from None
            except (http.client.HTTPException, OSError):
                pass  # the process has closed it: the read is sent again below
        try:
            return self._exchange(self._connect(timeout), method, target, data, fields, timeout)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise NoAnswer(_reason(error)) from None

    @contextmanager
    def lines(
        self, method: str, path: str, *, body: Any, headers: Mapping[str, str | bytes], timeout: float
    ) -> Iterator[Lines]:
        """Send a request, and read the lines of the response as they arrive; `timeout` is that between two of them.

        Raises NoAnswer.
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        fields = {"Content-Type": "application/json", **headers}
        try:
            connection.request(method, path, json.dumps(body).encode(), fields)
            response = connection.getresponse()
            yield Lines(response.status, iter(lambda: response.readline(MOST_BYTES), b""))
        except (http.client.HTTPException, OSError) as error:
            raise NoAnswer(_reason(error)) from None
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connection of this thread."""
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            kept.close()
            self._local.connection = None

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        self.close()
        self._local.connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout or self._timeout)
        connection: http.client.HTTPConnection = self._local.connection
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        data: bytes | None,
        fields: Mapping[str, str | bytes],
        timeout: float | None,
    ) -> Answer:
        if connection.sock is not None:
            connection.sock.settimeout(timeout or self._timeout)
        connection.request(method, target, data, dict(fields))
        response = connection.getresponse()
        body = response.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise http.client.HTTPException(f"the response is larger than {MOST_BYTES:,} bytes")
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "does not respond in time"
    if isinstance(error, ConnectionRefusedError):
        return "does not run: nothing listens on its port"
    if isinstance(error, ConnectionError):
        return "closed the connection without a response"
    return str(error) or type(error).__name__
