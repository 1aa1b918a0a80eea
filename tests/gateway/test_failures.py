"""Unavailable, slow and broken services: what clients are told, and what they are not."""

import asyncio
import http.client
import socket
import time

import pytest

from tests.gateway.clients import free_port, request
from tests.gateway.conftest import TIMEOUT
from tests.gateway.test_limits import is_problem
from tests.gateway.upstreams import CLOSE, Upstream, answer, closes, hangs, sends
from tests.waiting import eventually


@pytest.fixture
def deaf():
    """An address where nobody accepts: the queue of connections is full, so that further ones are not answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for filler in fillers:
            filler.close()


@pytest.fixture(params=["new connection", "idle connection"])
def connection(request, gateway, users):
    """Each test twice: what goes on a connection that has been used before goes another way through the gateway."""
    if request.param == "idle connection":
        gateway.ask("GET", "/api/users")
        users.requests.clear()


class TestThatAreAway:
    def test_an_unavailable_service_is_a_502(self, another_gateway):
        gateway = another_gateway(USERS_URL=f"http://127.0.0.1:{free_port()}")
        response = gateway.ask("GET", "/api/users/1?x=y")
        assert is_problem(response, 502)
        assert response.json["instance"] == "/api/users/1"
        assert response["retry-after"] == "1"

    def test_a_service_that_does_not_accept_is_a_504(self, another_gateway, deaf):
        gateway = another_gateway(USERS_URL=deaf, GATEWAY_CONNECT_TIMEOUT_SECONDS="0.2", GATEWAY_TIMEOUT_SECONDS="600")
        # Far from the time of the whole request, for which the client has no patience.
        assert is_problem(gateway.ask("GET", "/api/users"), 504)


@pytest.mark.usefixtures("connection")
class TestWhatTheClientIsTold:
    def test_a_service_that_closes_is_a_502(self, gateway, users):
        users.behave = closes
        assert is_problem(gateway.ask("GET", "/api/users"), 502)

    def test_a_service_that_hangs_is_a_504(self, gateway, users):
        users.behave = hangs
        started = time.monotonic()
        assert is_problem(gateway.ask("GET", "/api/users"), 504)
        assert TIMEOUT - 0.1 < time.monotonic() - started < TIMEOUT + 30
        eventually(lambda: users.open == 0, within=60)

    def test_a_service_that_hangs_within_its_header_is_a_504(self, gateway, users):
        async def behave(received, reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-")
            return await hangs(received, reader, writer)

        users.behave = behave
        assert is_problem(gateway.ask("GET", "/api/users"), 504)

    @pytest.mark.parametrize(
        "said",
        [
            b"garbage\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 600 Odd\r\n\r\n",
            b"\x00" * 10,
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: 1",
        ],
    )
    def test_a_service_that_does_not_speak_http_is_a_502(self, gateway, users, said):
        users.behave = sends(said, then=CLOSE)
        assert is_problem(gateway.ask("GET", "/api/users"), 502)

    def test_no_address_is_named(self, gateway, users):
        users.behave = closes
        response = gateway.ask("GET", "/api/users/1")
        told = str(response.headers).encode() + response.body
        assert str(users.port).encode() not in told
        assert b"127.0.0.1" not in told
        assert b"Error" not in response.body

    def test_a_head_request_gets_the_status_without_a_body(self, gateway, users):
        users.behave = closes
        with gateway.connect() as client:
            response = client.send(request("HEAD", "/api/users")).answer("HEAD")
            assert (response.status, response.body) == (502, b"")
            users.reset()
            assert client.send(request("GET", "/api/users")).answer().status == 200

    def test_the_connection_of_the_client_stays_open(self, gateway, users):
        with gateway.connect() as client:
            users.behave = closes
            assert client.send(request("GET", "/api/users")).answer().status == 502
            users.reset()
            assert client.send(request("GET", "/api/users")).answer().status == 200


@pytest.mark.usefixtures("connection")
class TestInTheMiddle:
    @pytest.mark.parametrize(
        "begun",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ],
    )
    @pytest.mark.parametrize("behaviour", [closes, hangs])
    def test_an_incomplete_response_is_visibly_incomplete(self, gateway, users, begun, behaviour):
        async def behave(received, reader, writer):
            writer.write(begun)
            await writer.drain()
            await asyncio.sleep(0.05)
            return await behaviour(received, reader, writer)

        users.behave = behave
        with gateway.connect() as client, pytest.raises((http.client.IncompleteRead, ConnectionError)):
            client.send(request("GET", "/api/users")).answer()
        eventually(lambda: users.open == 0, within=60)

    def test_a_malformed_chunk_aborts_the_response(self, gateway, users):
        async def behave(received, reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(b"zz\r\n")

        users.behave = behave
        with gateway.connect() as client, pytest.raises((http.client.IncompleteRead, ConnectionError)):
            client.send(request("GET", "/api/users")).answer()

    def test_a_service_may_respond_before_it_has_the_whole_body(self, gateway, users):
        users.reads_body = False
        users.behave = sends(answer(b"enough", status="413 Content Too Large"), then=CLOSE)
        with gateway.connect() as client:
            response = client.send(request("POST", "/api/users", body=b"x" * 250_000)).answer()
            assert (response.status, response.body) == (413, b"enough")
            users.reset()
            assert client.send(request("GET", "/api/users/1")).answer().body == b"/users/1"


class TestReplicas:
    def test_the_next_replica_is_used_if_one_is_unavailable(self, another_gateway, users):
        gateway = another_gateway(USERS_URL=f"http://127.0.0.1:{free_port()},{users.url}")
        assert [gateway.ask("POST", "/api/users", body=b"x").status for _ in range(6)] == [200] * 6
        assert len(users.requests) == 6

    def test_the_next_replica_is_used_if_one_does_not_accept(self, another_gateway, users, deaf):
        gateway = another_gateway(USERS_URL=f"{deaf},{users.url}", GATEWAY_CONNECT_TIMEOUT_SECONDS="0.2")
        assert [gateway.ask("PATCH", "/api/users/1", body=b"x").status for _ in range(20)] == [200] * 20
        # One that failed to answer is asked last for a while, so that not every second request waits for it.
        assert 1 <= gateway.metric("gateway_connect_failures_total", upstream="users") <= 5

    def test_a_recovered_replica_is_used_again(self, another_gateway, users):
        port = free_port()
        gateway = another_gateway(USERS_URL=f"http://127.0.0.1:{port},{users.url}")
        gateway.ask("GET", "/api/users")
        gateway.ask("GET", "/api/users")
        late = Upstream(port=port)
        try:
            eventually(lambda: gateway.ask("GET", "/api/users").status == 200 and late.requests, within=60, every=0.05)
        finally:
            late.stop()

    def test_a_recovered_service_is_used_immediately(self, another_gateway):
        port = free_port()
        gateway = another_gateway(USERS_URL=f"http://127.0.0.1:{port}")
        assert gateway.ask("GET", "/api/users").status == 502
        late = Upstream(port=port)
        try:
            assert gateway.ask("GET", "/api/users").status == 200
        finally:
            late.stop()
