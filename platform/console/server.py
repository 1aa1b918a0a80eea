"""The server of the console: gunicorn, with one process, since all state is in its memory, and many threads."""

import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

from django.core.wsgi import get_wsgi_application
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from console import system

THREADS = 64
"""Requests at the same time. Each open page holds one for its stream; they are created as they are needed."""
GRACE_SECONDS = 2


class Worker(ThreadWorker):
    """gunicorn's threaded worker, which ends the streams first: each of them holds a thread that it waits for."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Handle SIGTERM."""
        system.current().stop()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Handle SIGINT and SIGQUIT."""
        system.current().stop()
        super().handle_quit(sig, frame)


class Server(BaseApplication):
    """gunicorn, configured here and not by its command line."""

    def __init__(self, port: int) -> None:
        self._port = port
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's options."""
        options: dict[str, Any] = {
            "bind": f"127.0.0.1:{self._port}",
            "worker_class": Worker,
            "workers": 1,
            "threads": THREADS,
            # Loaded before the fork: an error ends the command, instead of being repeated.
            "preload_app": True,
            "graceful_timeout": GRACE_SECONDS,
            "keepalive": 30,
            "limit_request_line": 8190,
            "forwarded_allow_ips": "",
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108
            "control_socket_disable": True,
            "accesslog": None,
            "loglevel": "warning",
            "when_ready": _ready,
            "post_worker_init": _started,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application."""
        return get_wsgi_application()


def _ready(server: Any) -> None:
    """Before the fork: what is loaded is excluded from garbage collection, so that both processes share its memory."""
    gc.collect()
    gc.freeze()


def _started(worker: Any) -> None:
    threading.Thread(target=_end_with, args=[os.getppid()], name="parent", daemon=True).start()
    system.current().start()


def _end_with(parent: int) -> None:
    """End this process when the one that started it has been killed: gunicorn would wait for the streams, which never end."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
