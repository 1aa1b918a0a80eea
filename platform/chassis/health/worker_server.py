"""The small HTTP port of a worker: `/health/live`, `/health/ready` and `/metrics`, and nothing else.

A web process has one too (WEB_HEALTH_PORT), beside its own: it answers whatever the threads that serve requests do.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import orjson
import structlog
from django.conf import settings
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from chassis.health import probe, registry

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

log = structlog.get_logger(__name__)

PROBES: dict[str, Callable[[], probe.Answer]] = {"/health/live": probe.live, "/health/ready": probe.ready}


class PortTaken(SystemExit):
    """The port of WORKER_PORT is taken: choose another, or 0 for any free one."""


class Server(ThreadingMixIn, WSGIServer):
    """A running server on a socket that listens."""

    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = "worker", self.port
        self.setup_environ()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A prober that hung up is no error of ours."""
        log.debug("a prober left early")

    def stop(self) -> None:
        """Stop listening; requests under way end by themselves."""
        self.shutdown()
        self.server_close()


class _Handler(WSGIRequestHandler):
    timeout = 5  # seconds that a client may take to send its request

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: they are not logged."""


def start(parts: Iterable[registry.Part]) -> Server:
    """Serve this worker's health and metrics on WORKER_HOST:WORKER_PORT from a thread of its own.

    `parts` is what the worker depends on. Raises PortTaken.
    """
    registry.declare(parts)
    host, port = settings.WORKER_HOST, settings.WORKER_PORT
    try:
        listener = listen(host, port)
    except OSError as error:
        raise PortTaken(f"WORKER_PORT {port} cannot be listened on: {error.strerror}") from None
    server = serve(listener)
    log.info("worker serves health and metrics", host=host, port=server.port)
    return server


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; `::` is every address, of IPv4 too, also on a machine without IPv6. Raises OSError."""
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With SO_REUSEADDR: who is started again finds its port in use for a minute otherwise, by probes that have ended.
    listener = socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=host == "::")
    # Several processes may share it, and of one connection only one of them is to wait for a request.
    listener.setblocking(False)
    return listener


def serve(listener: socket.socket) -> Server:
    """Serve this process's health and metrics on a socket that listens, from a thread of its own."""
    server = Server(listener)
    server.set_app(application())
    threading.Thread(target=server.serve_forever, args=(0.1,), name="worker-server", daemon=True).start()
    return server


_inherited: list[socket.socket] = []


def bequeath(port: int) -> None:
    """Listen on WORKER_HOST in the process that will fork the web processes: they serve one port together.

    Once, whatever is reloaded. Raises OSError.
    """
    if not _inherited:
        _inherited.append(listen(settings.WORKER_HOST, port))


def serve_inherited() -> None:
    """In a web process: serve what was inherited, if anything."""
    for listener in _inherited:
        serve(listener)


def application() -> "WSGIApplication":
    """The WSGI application of the worker's port."""
    metrics_app: WSGIApplication = make_wsgi_app(_registry())

    def answer(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD", "")
        if method not in ("GET", "HEAD"):
            return _json(start_response, _problem(HTTPStatus.METHOD_NOT_ALLOWED))
        if path == "/metrics":
            return metrics_app(environ, start_response)
        return _json(start_response, PROBES[path]() if path in PROBES else _problem(HTTPStatus.NOT_FOUND))

    return answer


def _problem(status: HTTPStatus) -> probe.Answer:
    return probe.Answer(status, {"type": "about:blank", "title": status.phrase, "status": status})


def _json(start_response: "StartResponse", answer: probe.Answer) -> Iterable[bytes]:
    kind = "application/problem+json" if "title" in answer.body else "application/json"
    status = f"{answer.status:d} {HTTPStatus(answer.status).phrase}"
    start_response(status, [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [orjson.dumps(answer.body)]


def _registry() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together
