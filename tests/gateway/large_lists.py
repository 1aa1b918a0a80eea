"""A WSGI application with lists that exceed the buffers of sockets, which reports how many threads are busy."""

import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

LIST = b'{"results": [%b]}' % b", ".join(b"%06d" % number for number in range(1_000_000))
PIECE = 100_000

_lock = threading.Lock()
_busy = 0


class Counted:
    """A body whose thread is busy until gunicorn has sent it completely."""

    def __init__(self, body: bytes) -> None:
        global _busy
        self._body = body
        with _lock:
            _busy += 1

    def __iter__(self) -> Iterator[bytes]:
        return (self._body[start : start + PIECE] for start in range(0, len(self._body), PIECE))

    def close(self) -> None:
        global _busy
        with _lock:
            _busy -= 1


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """`/users/busy` returns how many threads are sending a list, `/users/chunked` a chunked list, `/users` a list with its length."""
    path = environ["PATH_INFO"]
    # Otherwise the kernel would buffer some megabytes.
    environ["gunicorn.socket"].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    fields = [("Content-Type", "application/json")]
    if path == "/users":
        start_response("200 OK", [*fields, ("Content-Length", str(len(LIST)))])
        return Counted(LIST)
    if path == "/users/chunked":
        start_response("200 OK", fields)
        return Counted(LIST)
    start_response("200 OK", fields)
    return [str(_busy).encode()]
