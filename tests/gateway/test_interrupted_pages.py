"""A page of the gateway whose request has ended, by its deadline or because the client left, ends with it."""

import asyncio
import socket
import struct
import threading

import pytest

from tests.gateway.clients import request, running
from tests.gateway.upstreams import answer
from tests.waiting import eventually

DOCUMENT = b'{"openapi": "3.1.0", "asyncapi": "3.0.0", "info": {}, "paths": {}}'


@pytest.fixture
def impatient(users, tmp_path):
    """A gateway that waits for a request for a shorter time than for a service's document."""
    with running(tmp_path, USERS_URL=users.url, GATEWAY_TIMEOUT_SECONDS="1") as gateway:
        yield gateway


@pytest.fixture
def held(users):
    """Makes users respond when the event is set; `asked` is released for each request that users gets."""
    event = threading.Event()
    event.asked = threading.Semaphore(0)

    async def responds_later(received, reader, writer):
        event.asked.release()
        await asyncio.to_thread(event.wait, 60)
        writer.write(answer(DOCUMENT))

    users.behave = responds_later
    yield event
    event.set()


@pytest.mark.parametrize("path", ["/api/schema", "/api/asyncapi"])
def test_each_request_after_an_expired_one_gets_its_own_response(impatient, held, path):
    with impatient.connect(timeout=30) as client:
        assert client.send(request("GET", path)).answer().status == 504
        held.set()

        for number in range(100):
            own = f"request-{number}"
            response = client.send(request("GET", "/health/live", f"X-Request-Id: {own}")).answer()
            assert response["x-request-id"] == own, response


def test_a_client_that_leaves_is_no_error_in_the_log(impatient, held):
    for _ in range(5):
        with impatient.connect() as client:
            client.send(request("GET", "/api/schema"))
            assert held.asked.acquire(timeout=60)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    eventually(lambda: sum(line.get("status") == 499 for line in impatient.log_lines()) >= 5)
    held.set()
    # Tasks that are forgotten are reported when they are collected: by then at the latest.
    for _ in range(300):
        impatient.ask("GET", "/api/docs")

    assert not [line for line in impatient.log_lines() if line["level"] == "error"]
    assert "never retrieved" not in impatient.log.read_text()
    assert "pending" not in impatient.log.read_text()
