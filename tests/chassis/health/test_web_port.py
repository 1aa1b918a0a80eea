"""A web process whose threads are all busy responds to probes on a separate port."""

import http.client
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import psycopg
import pytest

from embedded import ports
from embedded.signals import descendants
from settings.gunicorn_worker import WAIT_SECONDS
from tests.serving import DATABASES, database, gunicorn
from tests.waiting import eventually

PATHS = {"/health/live": b'"status":"live"', "/health/ready": b'"parts"', "/metrics": b"python_info"}


def get(port, path, timeout):
    """Status and body; None when nothing is answered in time."""
    connection = http.client.HTTPConnection("localhost", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return None
    finally:
        connection.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_probes_are_answered_when_all_threads_are_busy(processes):
    [health] = ports.free(1)
    with ExitStack() as stack:
        environment = stack.enter_context(database("users"))
        variables = {
            "WEB_HEALTH_PORT": str(health),
            "WEB_CONCURRENCY": str(processes),
            "WEB_THREADS": "8",
            "WORKER_HOST": "::",
        }
        served = stack.enter_context(gunicorn("users", {**environment, **variables}))
        port = urlsplit(served.url).port
        holder = stack.enter_context(psycopg.connect(environment[DATABASES["users"]]))
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        busy = 16 * processes
        pool = stack.enter_context(ThreadPoolExecutor(busy))
        asked = [pool.submit(get, port, "/users", 60) for _ in range(busy)]
        eventually(lambda: waiting(environment) >= 8, what="a request in each thread")

        if processes == 1:
            assert get(port, "/health/live", 0.5) is None  # nobody is left to answer it there
        for path, expected in PATHS.items():
            status, body = get(health, path, 2)
            assert status == 200, (path, body)
            assert expected in body
        assert get(health, "/users", 2)[0] == 404

        time.sleep(2 * WAIT_SECONDS)
        holder.rollback()
        # Those that had to wait for a thread for that long were refused when they got one.
        assert {answer.result()[0] for answer in asked} == {200, 503}


def test_it_is_there_after_a_reload_and_after_a_process_died():
    [health] = ports.free(1)
    with ExitStack() as stack:
        environment = stack.enter_context(database("users"))
        served = stack.enter_context(
            gunicorn("users", {**environment, "WEB_HEALTH_PORT": str(health), "WEB_CONCURRENCY": "1"})
        )
        for signum in (signal.SIGHUP, signal.SIGKILL):
            [old] = descendants(served.child.pid)
            os.kill(served.child.pid if signum == signal.SIGHUP else old, signum)
            eventually(lambda old=old: old not in descendants(served.child.pid), what="another process")
            assert eventually(lambda: get(health, "/health/live", 5))[0] == 200


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_service_on_all_addresses_is_reachable_by_both_families():
    with ExitStack() as stack:
        environment = stack.enter_context(database("users"))
        served = stack.enter_context(gunicorn("users", {**environment, "ALLOWED_HOSTS": "::1,127.0.0.1"}, host="[::]"))
        port = urlsplit(served.url).port
        for address, host in (("::1", f"[::1]:{port}"), ("127.0.0.1", f"127.0.0.1:{port}")):
            connection = http.client.HTTPConnection(address, port, timeout=10)
            connection.request("GET", "/health/live", headers={"Host": host})
            assert connection.getresponse().status == 200
            connection.close()


def waiting(environment):
    with psycopg.connect(environment[DATABASES["users"]], autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        return row[0]
