"""The HTTP server of a worker, which serves only `/health/live`, `/health/ready` and `/metrics`.

A web process can run it too, on a second port (WEB_HEALTH_PORT), which responds even if all request threads are busy.
"""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import orjson
import structlog
from django.conf import settings

from chassis.health import probe, registry
from chassis.observability import exposition

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

log = structlog.get_logger(__name__)

PROBES: dict[str, Callable[[], probe.Answer]] = {"/health/live": probe.live, "/health/ready": probe.ready}


LISTEN_TRIES = 12
"""Tries, one per second: the web processes of a main process that was killed finish their requests before they end."""


class PortTaken(SystemExit):
    """The port in WORKER_PORT is in use: choose another one, or 0 for any free port."""


class Server(ThreadingMixIn, WSGIServer):
    """A server on a listening socket."""

    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = "worker", self.port
        self.setup_environ()

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of connections that the client closed early."""
        log.debug("a client closed its connection early")

    def stop(self) -> None:
        """Stop listening; requests in progress finish."""
        self.shutdown()
        self.server_close()


class _Handler(WSGIRequestHandler):
    timeout = 5  # seconds within which a client must send its request

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, since probes arrive every few seconds."""


def start(parts: Iterable[registry.Part]) -> Server:
    """Serve this worker's health checks and metrics on WORKER_HOST:WORKER_PORT, in a separate thread.

    `parts` are the worker's dependencies. Raises PortTaken.
    """
    registry.declare(parts)
    host, port = settings.WORKER_HOST, settings.WORKER_PORT
    try:
        listener = listen(host, port)
    except OSError as error:
        raise PortTaken(f"cannot listen on WORKER_PORT {port}: {error.strerror}") from None
    server = serve(listener)
    log.info("serving health checks and metrics", host=host, port=server.port)
    return server


def listen(host: str, port: int) -> socket.socket:
    """Create a listening socket; `::` means every address, including IPv4, also on a machine without IPv6. Raises OSError."""
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # create_server sets SO_REUSEADDR: otherwise closed connections of probes block the port for a minute after a restart.
    listener = socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=host == "::")
    # Several processes may share the socket, and only one of them gets each connection, so accept() must not block.
    listener.setblocking(False)
    return listener


def serve(listener: socket.socket) -> Server:
    """Serve this process's health checks and metrics on a listening socket, in a separate thread."""
    server = Server(listener)
    server.set_app(application())
    threading.Thread(target=server.serve_forever, args=(0.1,), name="worker-server", daemon=True).start()
    return server


_inherited: list[socket.socket] = []


def listen_before_fork(port: int) -> None:
    """Listen on WORKER_HOST in the process that forks the web processes, which then share the port.

    Only the first call has an effect, so a reload does not listen again. Raises OSError.
    """
    for left in reversed(range(LISTEN_TRIES)):
        if _inherited:
            return
        try:
            _inherited.append(listen(settings.WORKER_HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not left:
                raise
            time.sleep(1)


def serve_inherited() -> None:
    """In a web process: serve on the inherited socket, if there is one."""
    for listener in _inherited:
        serve(listener)


def application() -> "WSGIApplication":
    """The WSGI application of this server."""

    def answer(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD", "")
        if method not in ("GET", "HEAD"):
            return _json(start_response, _problem(HTTPStatus.METHOD_NOT_ALLOWED))
        if path == "/metrics":
            return _metrics(environ, start_response)
        return _json(start_response, PROBES[path]() if path in PROBES else _problem(HTTPStatus.NOT_FOUND))

    return answer


def _problem(status: HTTPStatus) -> probe.Answer:
    return probe.Answer(status, {"type": "about:blank", "title": status.phrase, "status": status})


def _json(start_response: "StartResponse", answer: probe.Answer) -> Iterable[bytes]:
    kind = "application/problem+json" if "title" in answer.body else "application/json"
    status = f"{answer.status:d} {HTTPStatus(answer.status).phrase}"
    start_response(status, [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [orjson.dumps(answer.body)]


def _metrics(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
    headers, body = exposition.scrape(environ.get("HTTP_ACCEPT", ""), environ.get("HTTP_ACCEPT_ENCODING", ""))
    start_response("200 OK", list(headers.items()))
    return [body]
