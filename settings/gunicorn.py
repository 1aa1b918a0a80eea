"""How gunicorn serves users, orders and payments: `gunicorn SERVICE.wsgi --config settings/gunicorn.py`.

One process with threads: a service waits for its database more than it computes. More processes where there are more
cores (WEB_CONCURRENCY), more machines where there is more load.
"""

import gc
import os
import select
import signal
from pathlib import Path
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    # gunicorn listens to signals when the application is loaded; who asks for the end before that gets it at once.
    # (When this file is read again, on SIGHUP, its handler stands and stays.)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
threads = int(os.environ.get("WEB_THREADS", "8"))


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


worker_class = Worker

# Loaded once, before the workers are forked: they share its memory, and a wrong setting ends the start at once.
preload_app = True

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


def when_ready(server: Any) -> None:
    """Before the first fork: what is loaded now stays; not looking at it again keeps its memory shared."""
    gc.collect()
    gc.freeze()
