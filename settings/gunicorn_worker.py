"""The gunicorn worker of the services behind the gateway: threads that no client can hold for long.

The gateway sends a request only when it is complete, and reads at full speed. Other clients of a service's port (an admin's
browser, a probe, a script) may be slow or stall, and gunicorn has few threads: a client gets one when it has sent something,
and must send the rest, and read the response, within a time limit.
"""

import contextlib
import errno
import json
import logging
import select
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from settings.client_socket import ClientSocket
from settings.shared_counts import SLOTS, SharedCounts

counts = SharedCounts()
"""How many connections each web process has."""

SILENT_SECONDS = 10.0
"""How long a client may take until it sends the first byte. It holds no thread meanwhile."""

PROBES = 2
"""Threads that use the database besides those for requests: the health checks of database and outbox."""

YIELD_SECONDS = 0.1
"""How long a process leaves a new connection to another one that has fewer."""

WAIT_SECONDS = 0.5
"""How long a request may wait for a thread. After that it is refused, so that its client learns early that there is too much to
do, and what is accepted is answered in time."""

UNREFUSED = ("/health/", "/metrics")
"""Paths that are answered however long they have waited: a busy process is alive."""

LINGER_SECONDS = 2.0
"""How long a closing connection waits for the client to close its side, so that the response is not lost (RFC 9112, 9.6)."""


class Connection(TConn):
    """A client's connection, closed without holding up others."""

    def __init__(self, worker: "Worker", client: socket.socket, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, ClientSocket(fileno=client.detach()), address, server)
        self._worker = worker
        self.readable_at = 0.0
        """When its request began to wait for a thread (time.monotonic)."""
        self.waited = 0.0
        """How long its request has waited for a thread, in seconds."""
        self.had_to_wait = False
        """Whether all threads were busy when its request arrived."""

    def close(self, graceful: bool = False) -> None:
        """Close; gracefully in the main loop, without blocking it, since it accepts all connections."""
        if graceful and self._worker.alive:
            self._worker.linger(self.sock)
        else:
            super().close(graceful)


class Worker(ThreadWorker):
    """gunicorn's threaded worker, with four changes.

    It closes its listening socket as soon as it shuts down. gunicorn itself keeps the socket open until the last kept-alive
    connection is closed, but accepts no connections: a client that connects in the meantime waits for two seconds, whereas one
    that is refused tries another replica at once.

    It leaves new connections to the process that has the fewest, for a moment. In gunicorn itself, of two processes one often
    has all connections of the gateway, and the other is idle.

    It refuses a request that has waited for too long for a thread, with 503 and Retry-After. In gunicorn itself, the queue is
    as long as clients want.

    Clients hold threads, and the main loop, only while they keep up. In gunicorn itself, a silent connection occupies a thread
    for five seconds, half a header occupies it forever, and a client that does not close a closed connection stops the main
    loop for two seconds.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._connections = 0
        super().__init__(*args, **kwargs)
        self._given = 0
        """How many requests the threads have been given and have not finished."""
        self._left_since: float | None = None
        self._refused: Callable[[], None] = lambda: None
        self._lingering: dict[socket.socket, float] = {}
        self._busy: set[int] = set()
        self._observe_queue: Callable[[float], None] = lambda _: None

    @property
    def nr_conns(self) -> int:
        """The number of open connections; other processes see it."""
        return self._connections

    @nr_conns.setter
    def nr_conns(self, number: int) -> None:
        self._connections = number
        if self.alive:
            counts.set(self.age % SLOTS, number)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: shut down gracefully, and leave new connections to others."""
        super().handle_exit(sig, frame)
        counts.free(self.age % SLOTS)

    def export_metrics(self) -> None:
        """Export how long requests wait for threads, and how many threads are busy, from now on."""
        # Not before the fork, and after the folder of metrics is known.
        from chassis.observability import metrics, sampling

        self._observe_queue = metrics.HTTP_QUEUE_SECONDS.observe
        self._refused = metrics.HTTP_REFUSED.inc
        metrics.DB_CONNECTION_MAX.set(self.cfg.threads + PROBES)

        def sample() -> None:
            busy = len(self._busy)
            metrics.HTTP_THREADS.labels("busy").set(busy)
            metrics.HTTP_THREADS.labels("idle").set(self.cfg.threads - busy)

        sampling.sample(sample)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting; on shutdown, accept the connections that are already queued, then close the socket."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            while select.select([listener], [], [], 0)[0]:
                self.accept(listener)
            listener.close()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, which waits for its first bytes in the main loop, not in a thread."""
        if self._leaves_to_another():
            return
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        connection = Connection(self, client, address, listener.getsockname())
        connection.timeout = time.monotonic() + SILENT_SECONDS
        self.pending_conns.append(connection)
        waiting = partial(self.on_pending_socket_readable, connection)
        self.poller.register(connection.sock, selectors.EVENT_READ, waiting)

    def _leaves_to_another(self) -> bool:
        """Whether to leave a connection to another process. It may be frozen, so this is true only for a moment."""
        now = time.monotonic()
        if not counts.is_ahead(self.age % SLOTS):
            self._left_since = None
            return False
        if self._left_since is None or now - self._left_since > 2 * YIELD_SECONDS:
            self._left_since = now
        if now - self._left_since > YIELD_SECONDS:
            return False
        time.sleep(YIELD_SECONDS / 100)
        return True

    def enqueue_req(self, conn: Connection) -> None:
        """Have a thread handle a request, as soon as one is idle."""
        conn.readable_at = time.monotonic()
        conn.had_to_wait = self._given >= self.cfg.threads
        self._given += 1
        super().enqueue_req(conn)

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Keep or close the connection of a request that a thread has handled."""
        self._given -= 1
        super().finish_request(conn, fs)

    def handle(self, conn: Connection) -> Any:
        """Handle a request, in a thread. One that does not arrive in time is a 408."""
        conn.waited = time.monotonic() - conn.readable_at
        thread = threading.get_ident()
        self._busy.add(thread)
        try:
            return self._handle(conn)
        finally:
            self._busy.discard(thread)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Respond to a request whose head has arrived."""
        self._observe_queue(conn.waited)
        if conn.had_to_wait and conn.waited > WAIT_SECONDS and not req.path.startswith(UNREFUSED):
            self._refused()
            _refuse(conn.sock, HTTPStatus.SERVICE_UNAVAILABLE, "There are too many requests; try again.", retry_after=1)
            return False
        try:
            return super().handle_request(req, conn)
        finally:
            conn.sock.flush()

    def _handle(self, conn: Connection) -> Any:
        conn.sock.begin()
        keeps_alive = super().handle(conn)
        if conn.sock.is_late and not conn.sock.has_answered:
            _refuse(conn.sock, HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")
        return keeps_alive and not conn.sock.is_late

    def linger(self, client: socket.socket) -> None:
        """Close a connection when the client has closed it, or after a while."""
        try:
            client.shutdown(socket.SHUT_WR)
            client.settimeout(0)
            self.poller.register(client, selectors.EVENT_READ, self._discard)
        except (OSError, ValueError):
            util.close(client)
        else:
            self._lingering[client] = time.monotonic() + LINGER_SECONDS

    def murder_pending(self) -> None:
        """Close the connections that have waited for too long."""
        super().murder_pending()
        now = time.monotonic()
        for client in [client for client, until in self._lingering.items() if until <= now]:
            self._drop(client)

    def _discard(self, client: socket.socket) -> None:
        try:
            over = not client.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            over = True
        if over:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        del self._lingering[client]
        self.poller.unregister(client)
        util.close(client)

    def _cap_keepalive(self, deadline: float) -> None:
        # On shutdown, silent connections wait no longer than kept-alive ones.
        super()._cap_keepalive(deadline)
        for connection in self.pending_conns:
            connection.timeout = min(connection.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Reject a malformed request with a problem document (RFC 9457). The log contains nothing of the request."""
        status = next((status for kind, status in CLIENT_ERRORS.items() if isinstance(exc, kind)), None)
        if status is None or isinstance(exc, SERVER_ERRORS):
            logging.getLogger("gunicorn.error").error("request failed outside the application", exc_info=exc)
            _refuse(client, HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        request_id = _refuse(client, status)
        fields = {"error": type(exc).__name__, "status": int(status), "request_id": request_id}
        logging.getLogger("gunicorn.error").warning("request rejected: %s", json.dumps(fields))


CLIENT_ERRORS: dict[type[Exception], HTTPStatus] = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,  # RFC 9112, 6.1
    errors.ForbiddenProxyRequest: HTTPStatus.FORBIDDEN,
    errors.ParseException: HTTPStatus.BAD_REQUEST,
}
"""The errors with which gunicorn itself rejects a request, before it reaches the application."""


SERVER_ERRORS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)
"""Subclasses of these that the client did not cause."""


def _refuse(
    client: socket.socket,
    status: HTTPStatus,
    detail: str = "This is not a valid HTTP/1.1 request.",
    *,
    retry_after: int | None = None,
) -> str:
    """Send a problem document. Returns its request id."""
    request_id = str(uuid.uuid4())
    members = {"type": "about:blank", "title": status.phrase, "status": int(status)}
    body = json.dumps({**members, "detail": detail, "requestId": request_id})
    later = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Request-Id: {request_id}\r\n{later}\r\n"
    )
    with contextlib.suppress(OSError):
        client.sendall((head + body).encode("ascii"))
    return request_id
