"""The gunicorn configuration of the services behind the gateway: `gunicorn SERVICE.wsgi --config settings/gunicorn.py`.

One process with threads, since a service mostly waits for its database. Increase the number of processes to use more cores
(WEB_CONCURRENCY), and the number of replicas for more load.
"""

import contextlib
import gc
import json
import logging
import os
import select
import signal
import socket
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    # gunicorn installs its signal handlers after it has loaded the application; until then, exit at once.
    # (When SIGHUP reloads this file, gunicorn's handler is installed and is kept.)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
threads = int(os.environ.get("WEB_THREADS", "8"))

health_port = int(os.environ.get("WEB_HEALTH_PORT", "0"))
"""A second port, for health checks and metrics only, which responds even if all threads are busy. 0 disables it."""


class Worker(ThreadWorker):
    """gunicorn's threaded worker, which in addition closes its listening socket as soon as it shuts down.

    gunicorn itself keeps the socket open until the last kept-alive connection is closed, but accepts no connections: a client
    that connects in the meantime waits for two seconds, whereas one that is refused tries another replica at once.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting; on shutdown, accept the connections that are already queued, then close the socket."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            while select.select([listener], [], [], 0)[0]:
                self.accept(listener)
            listener.close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Reject a malformed request with a problem document (RFC 9457). The log contains nothing of the request."""
        request_id = str(uuid.uuid4())
        status = next((status for kind, status in CLIENT_ERRORS.items() if isinstance(exc, kind)), None)
        if status is None or isinstance(exc, SERVER_ERRORS):
            logging.getLogger("gunicorn.error").error("request failed outside the application", exc_info=exc)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        else:
            fields = {"error": type(exc).__name__, "status": int(status), "request_id": request_id}
            logging.getLogger("gunicorn.error").warning("request rejected: %s", json.dumps(fields))
        with contextlib.suppress(OSError):
            client.sendall(_problem(status, request_id))


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


def _problem(status: HTTPStatus, request_id: str) -> bytes:
    members = {"type": "about:blank", "title": status.phrase, "status": int(status)}
    body = json.dumps({**members, "detail": "This is not a valid HTTP/1.1 request.", "requestId": request_id})
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Request-Id: {request_id}\r\n\r\n"
    )
    return (head + body).encode("ascii")


worker_class = Worker

# The application is loaded once, before the workers are forked: they share its memory, and an invalid setting stops startup.
preload_app = True

# gunicorn itself trusts no X-Forwarded-Proto or Script_Name header. Django decides which proxies' X-Forwarded-* headers to
# trust (TRUSTED_PROXIES).
forwarded_allow_ips = ""

# After SIGTERM, requests in progress have ten seconds to finish.
graceful_timeout = 10
# The gateway accepts targets of 8,000 bytes; this leaves room for the method and the version.
limit_request_line = 8190
# Longer than the gateway keeps an idle connection, so that it never sends a request on one that is being closed.
keepalive = 75

# A worker reports that it is alive by touching a file. On a disk, a slow disk would make it look dead.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108

# No other file is written: the file system may be read-only.
control_socket_disable = True

# The gateway keeps the access log.
accesslog = None
loglevel = "warning"


def on_starting(server: Any) -> None:
    """Replace `[::]` with every IPv4 address on a machine without IPv6."""
    if not socket.has_dualstack_ipv6():
        bound = [address.replace("[::]", "0.0.0.0") for address in server.cfg.settings["bind"].get()]
        server.cfg.set("bind", bound)


def post_worker_init(worker: Any) -> None:
    """Serve health checks and metrics in a thread of each web process."""
    if health_port:
        from chassis.health import worker_server

        worker_server.serve_inherited()


def when_ready(server: Any) -> None:
    """Exclude everything loaded so far from garbage collection, before the first fork, so that its memory stays shared."""
    if health_port:
        from chassis.health import worker_server

        worker_server.listen_before_fork(health_port)
    gc.collect()
    gc.freeze()
