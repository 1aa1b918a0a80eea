"""A WSGI application, served by the services' worker with short time limits, whose lists are larger than what sockets buffer."""

import gc
import socket
from collections.abc import Iterable
from typing import Any

from settings import client_socket, gunicorn_worker

LIST = b"[" + b"0," * 1_000_000 + b"0]"

gunicorn_worker.SILENT_SECONDS = 1.0
client_socket.RECEIVE_SECONDS = 0.3
client_socket.SEND_SECONDS = 0.3
# The clients of these tests wait until the others have lost their threads.
gunicorn_worker.WAIT_SECONDS = 60.0


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """`/users/list`: a large list; `/users/garbage`: whether garbage is collected; else how many bytes the body had."""
    environ["gunicorn.socket"].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    if environ["PATH_INFO"] == "/users/list":
        start_response("200 OK", [("Content-Length", str(len(LIST)))])
        return [LIST]
    if environ["PATH_INFO"] == "/users/garbage":
        body = b"collected" if gc.isenabled() else b"kept"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    try:
        body = b"%d" % len(environ["wsgi.input"].read())
    except OSError:
        start_response("400 Bad Request", [("Content-Length", "0")])
        return []
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
