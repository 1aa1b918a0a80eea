"""How gunicorn serves users, orders and payments: `gunicorn SERVICE.wsgi --config settings/gunicorn.py`.

One process with threads: a service waits for its database more than it computes. More processes where there are more
cores (WEB_CONCURRENCY), more machines where there is more load.
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
    # gunicorn listens to signals when the application is loaded; who asks for the end before that gets it at once.
    # (When this file is read again, on SIGHUP, its handler stands and stays.)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
threads = int(os.environ.get("WEB_THREADS", "8"))

health_port = int(os.environ.get("WEB_HEALTH_PORT", "0"))
"""Beside the service's own port, one for health and metrics alone: they answer when all threads are busy. 0 is none."""


class Worker(ThreadWorker):
    """gunicorn's own, whose door closes at the moment in which it is told to end.

    By itself it would keep its socket until the last kept-alive connection is gone, and answer nobody there: who connects
    meanwhile would wait for two seconds, where one who is refused goes to another replica at once.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or stop to accept; for good once it was told to end, after those who have connected already."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            while select.select([listener], [], [], 0)[0]:
                self.accept(listener)
            listener.close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Refuse what is no request with a problem (RFC 9457), as everything else is refused. No log line quotes it."""
        request_id = str(uuid.uuid4())
        status = next((status for kind, status in REFUSED.items() if isinstance(exc, kind)), None)
        if status is None or isinstance(exc, OURS):
            logging.getLogger("gunicorn.error").error("request failed outside the application", exc_info=exc)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        else:
            what = {"error": type(exc).__name__, "status": int(status), "request_id": request_id}
            logging.getLogger("gunicorn.error").warning("request refused: %s", json.dumps(what))
        with contextlib.suppress(OSError):
            client.sendall(_problem(status, request_id))


REFUSED: dict[type[Exception], HTTPStatus] = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,  # RFC 9112, 6.1
    errors.ForbiddenProxyRequest: HTTPStatus.FORBIDDEN,
    errors.ParseException: HTTPStatus.BAD_REQUEST,
}
"""What gunicorn itself refuses, before there is a request for the application."""


OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)
"""Of the same kind, but no fault of the client's."""


def _problem(status: HTTPStatus, request_id: str) -> bytes:
    members = {"type": "about:blank", "title": status.phrase, "status": int(status)}
    body = json.dumps(
        {**members, "detail": "This is not HTTP/1.1, or not as it is taken here.", "requestId": request_id}
    )
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Request-Id: {request_id}\r\n\r\n"
    )
    return (head + body).encode("ascii")


worker_class = Worker

# Loaded once, before the workers are forked: they share its memory, and a wrong setting ends the start at once.
preload_app = True

# It believes nobody itself: not the X-Forwarded-Proto, and no Script_Name, of whoever connects from this machine. Whose
# X-Forwarded-* count is Django's to say (TRUSTED_PROXIES).
forwarded_allow_ips = ""

# On SIGTERM: no new connection, ten seconds for those under way.
graceful_timeout = 10
# The gateway takes targets of 8,000 bytes; method and version come to them.
limit_request_line = 8190
# Longer than the gateway keeps an idle connection, so that it never sends a request into one that is being closed.
keepalive = 75

# A worker says that it lives by touching a file; where that is a disk, a slow disk would look like a dead worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108

# No file is written outside of that: the file system may be read-only.
control_socket_disable = True

# The gateway logs requests; the services log what they do.
accesslog = None
loglevel = "warning"


def on_starting(server: Any) -> None:
    """On a machine without IPv6, `[::]` is every address of IPv4."""
    if not socket.has_dualstack_ipv6():
        bound = [address.replace("[::]", "0.0.0.0") for address in server.cfg.settings["bind"].get()]
        server.cfg.set("bind", bound)


def post_worker_init(worker: Any) -> None:
    """In each web process, a thread of its own for probes and Prometheus."""
    if health_port:
        from chassis.health import worker_server

        worker_server.serve_inherited()


def when_ready(server: Any) -> None:
    """Before the first fork: what is loaded now stays; not looking at it again keeps its memory shared."""
    if health_port:
        from chassis.health import worker_server

        worker_server.bequeath(health_port)
    gc.collect()
    gc.freeze()
