"""The gunicorn configuration of the services behind the gateway: `gunicorn SERVICE.wsgi --config settings/gunicorn.py`.

Two processes with threads: a thread computes longer than it waits for the database, and the threads of a process compute one
at a time. Set the number of processes to the number of cores (WEB_CONCURRENCY), and add replicas for more load.
"""

import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import settings  # noqa: F401  puts platform/ on the import path
from chassis.observability import startup
from services import WITH_DATABASE
from settings import gunicorn_worker, metrics_folder
from settings.gunicorn_worker import Worker
from settings.shared_counts import SLOTS

startup.install()

# Loading the application creates some hundred thousand objects and hardly any garbage: searching for it would take a tenth of
# the time. `pre_fork` enables the garbage collector again.
gc.disable()


def _exit_at_once(*_: Any) -> None:
    metrics_folder.remove()
    os._exit(0)


if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    # gunicorn installs its signal handlers after it has loaded the application; until then, exit at once.
    # (When SIGHUP reloads this file, gunicorn's handler is installed and is kept.)
    signal.signal(signal.SIGTERM, _exit_at_once)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    with startup.reported():
        if not text.isdecimal():
            raise SystemExit(f"{name} must be a number, not {text!r}.")
    return int(text)


def _default_workers() -> int:
    """1 for a service without a database, which has hardly any requests: a process takes about 20 MiB."""
    names = {service.name for service in WITH_DATABASE}
    return 2 if startup.service_name() in names else 1


workers = _number("WEB_CONCURRENCY", _default_workers())
# Before the application is loaded, and with it prometheus_client.
metrics_folder.prepare(workers)
threads = _number("WEB_THREADS", 4)

health_port = _number("WEB_HEALTH_PORT", 0)
"""A second port, for health checks and metrics only, which responds even if all threads are busy. 0 disables it."""

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
    """Replace `[::]` with every IPv4 address on a machine without IPv6. Exits if web processes would not share metrics."""
    if server.cfg.workers > 1 and not metrics_folder.is_prepared():
        sys.exit(
            "set the number of web processes with WEB_CONCURRENCY, not with --workers, so that they share their metrics"
        )
    if not socket.has_dualstack_ipv6():
        bound = [address.replace("[::]", "0.0.0.0") for address in server.cfg.settings["bind"].get()]
        server.cfg.set("bind", bound)


def pre_fork(server: Any, worker: Any) -> None:
    """Enable garbage collection after the application has been loaded, or reloaded on SIGHUP."""
    gc.enable()


def post_worker_init(worker: Any) -> None:
    """Export the metrics of each web process, and serve them and health checks in a thread of it."""
    worker.export_metrics()
    if metrics_folder.is_prepared():
        from chassis.observability import sampling

        sampling.take_periodically()
    if health_port:
        from chassis.health import worker_server

        worker_server.serve_inherited()


def when_ready(server: Any) -> None:
    """Before the first fork: exclude everything loaded so far from garbage collection, so that its memory stays shared."""
    if metrics_folder.is_prepared():
        from chassis.observability import multiprocess

        multiprocess.discard_main_process()
    if health_port:
        from chassis.health import worker_server

        worker_server.listen_before_fork(health_port)
    gc.collect()
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    """In the main process: keep the counters of a web process that has ended, but not its files."""
    gunicorn_worker.counts.free(worker.age % SLOTS)
    if metrics_folder.is_prepared():
        from chassis.observability import multiprocess

        try:
            multiprocess.remove_ended(worker.pid)
        except (OSError, RuntimeError) as error:
            server.log.error("metrics of a web process that has ended cannot be added up: %s", error)
