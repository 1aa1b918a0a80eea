"""A client's socket that no client can hold for long, and that makes few system calls: see `settings/gunicorn_worker.py`."""

import contextlib
import errno
import math
import socket
import time
from collections.abc import Iterator
from typing import Any

RECEIVE_SECONDS = 15.0
"""How long a client may take to send a request."""

SEND_SECONDS = 60.0
"""How long a client may take to read a response."""

NO_WAIT = 0.001
"""The shortest timeout, in seconds; 0 would make a socket non-blocking."""

END_OF_HEAD = b"\r\n\r\n"


class ClientSocket(socket.socket):
    """A client's socket whose blocking calls end at a time limit that applies to the whole request, not to each call.

    Each system call here lets another thread compute, after which this one must wait for its turn. So there are few: what has arrived
    is read, and what fits is sent, without setting a timeout, and the head of a response is sent with the beginning of its body.
    """

    _receive_by = math.inf
    _send_by: float | None = None
    _head = b""
    """The head of a response, which is sent with its body, or by `flush`."""
    is_late = False
    """Whether the client has exceeded a limit."""

    @property
    def has_answered(self) -> bool:
        """Whether a response to the current request has begun."""
        return self._send_by is not None

    def begin(self) -> None:
        """A request begins."""
        self._receive_by, self._send_by, self._head = time.monotonic() + RECEIVE_SECONDS, None, b""

    def recv(self, *args: Any) -> bytes:
        """See socket. Raises ConnectionResetError at the time limit."""
        if self.gettimeout() is None:
            with contextlib.suppress(BlockingIOError):
                return super().recv(args[0], socket.MSG_DONTWAIT)
        with self._until(self._receive_by):
            return super().recv(*args)

    def sendall(self, *args: Any) -> None:
        """See socket. Raises ConnectionResetError at the time limit."""
        data = self._head + args[0]
        if not self.has_answered and data.endswith(END_OF_HEAD):
            self._head = data
            self._sending()
            return
        self._head = b""
        limit, sent = self._sending(), 0
        if self.gettimeout() is None:
            with contextlib.suppress(BlockingIOError):
                sent = super().send(data, socket.MSG_DONTWAIT)
        if sent < len(data):
            with self._until(limit):
                super().sendall(memoryview(data)[sent:])

    def sendfile(self, *args: Any, **options: Any) -> int:
        """See socket. Raises ConnectionResetError at the time limit."""
        self.flush()
        with self._until(self._sending()):
            return super().sendfile(*args, **options)

    def flush(self) -> None:
        """Send the head of a response that has no body."""
        if self._head and self.fileno() >= 0:
            self.sendall(b"")

    def setblocking(self, flag: bool) -> None:
        """Stay blocking: gunicorn changes this twice for each request, but its poller says when there is something to read."""

    def settimeout(self, value: float | None) -> None:
        """See socket; makes no system call if nothing changes."""
        if value != self.gettimeout():
            super().settimeout(value)

    def _sending(self) -> float:
        if self._send_by is None:
            self._send_by = time.monotonic() + SEND_SECONDS
        return self._send_by

    @contextlib.contextmanager
    def _until(self, limit: float) -> Iterator[None]:
        # gunicorn itself sets a shorter timeout where it reads what remains of a request.
        before = self.gettimeout()
        left = limit - time.monotonic()
        if before == 0 or left == math.inf:
            yield
            return
        # What has arrived is read even after the limit: it is this process that was late, frozen or short of CPU.
        left = max(left, NO_WAIT)
        self.settimeout(left if before is None else min(left, before))
        try:
            yield
        except TimeoutError:
            if time.monotonic() < limit:
                raise
            raise self._too_late() from None
        finally:
            self.settimeout(before)

    def _too_late(self) -> ConnectionResetError:
        self.is_late = True
        # The error that gunicorn expects of clients: it writes no traceback to the log.
        return ConnectionResetError(errno.ECONNRESET, "the client is too slow")
