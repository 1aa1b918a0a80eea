"""Several web processes share connections equally; what waits too long for a thread is refused."""

import http.client
import json
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest

from embedded.signals import descendants
from settings.shared_counts import SharedCounts
from tests.serving import gunicorn
from tests.waiting import eventually

PATIENCE_SECONDS = 60


@pytest.fixture
def start():
    with ExitStack() as stack:

        def start(processes, threads):
            own = {"WEB_CONCURRENCY": str(processes), "WEB_THREADS": str(threads)}
            application = "tests.settings.balanced:application"
            return stack.enter_context(gunicorn("users", {**os.environ, **own}, application=application))

        yield start


def get(client, path):
    client.request("GET", path)
    response = client.getresponse()
    return response.status, response.headers, response.read()


def client_of(served, stack):
    port = urlsplit(served.url).port
    return stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)))


def shares(served, number):
    """How many of so many open connections each process has."""
    with ExitStack() as stack:
        clients = [client_of(served, stack) for _ in range(number)]
        for client in clients:
            client.connect()
        return Counter(get(client, "/users")[2] for client in clients)


class TestShares:
    def test_connections_are_shared_equally(self, start):
        served = start(2, 1)
        eventually(lambda: len(shares(served, 8)) == 2, what="both processes have started")
        found = shares(served, 20)
        # The process that is slow for a moment may have got fewer.
        assert len(found) == 2, found
        assert min(found.values()) >= 7, found

    def test_a_frozen_process_holds_up_no_client(self, start):
        served = start(2, 1)
        frozen, *_ = descendants(served.child.pid)
        os.kill(frozen, signal.SIGSTOP)
        try:
            with ExitStack() as stack:
                for _ in range(3):
                    # The kernel may have given it to the frozen process, which never accepted it.
                    assert get(client_of(served, stack), "/users")[2] != b"%d" % frozen
        finally:
            os.kill(frozen, signal.SIGCONT)

    def test_who_is_ahead(self):
        counts = SharedCounts()
        counts.set(3, 2)
        assert not counts.is_ahead(3)
        counts.set(4, 2)
        assert not counts.is_ahead(3)
        counts.set(4, 1)
        assert counts.is_ahead(3)
        assert not counts.is_ahead(4)
        counts.free(4)
        assert not counts.is_ahead(3)


class TestOverload:
    def test_a_request_that_has_waited_for_too_long_is_refused(self, start):
        served = start(1, 1)
        with ExitStack() as stack:
            clients = [client_of(served, stack) for _ in range(4)]
            pool = stack.enter_context(ThreadPoolExecutor(4))
            answers = [answer.result() for answer in [pool.submit(get, client, "/slow") for client in clients]]

            taken, refused = ([a for a in answers if a[0] == status] for status in (200, 503))
            assert len(taken) + len(refused) == 4
            assert taken
            assert refused
            for _, headers, body in refused:
                assert headers["Retry-After"] == "1"
                assert headers["Content-Type"] == "application/problem+json"
                assert json.loads(body)["status"] == 503
            assert get(client_of(served, stack), "/users")[0] == 200

    def test_probes_are_not(self, start):
        served = start(1, 1)
        with ExitStack() as stack:
            slow, probe = client_of(served, stack), client_of(served, stack)
            pool = stack.enter_context(ThreadPoolExecutor(2))
            first = pool.submit(get, slow, "/slow")
            assert get(probe, "/health/live")[0] == 200
            assert first.result()[0] == 200
