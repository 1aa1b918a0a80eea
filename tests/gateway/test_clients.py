"""Clients: many at once, slow ones, and ones that disconnect."""

import asyncio
import random
import socket
import threading
import uuid

import pytest

from tests.gateway.clients import REQUESTS, request, running
from tests.gateway.upstreams import CLOSE, answer, hangs
from tests.waiting import eventually

MEGABYTE = 1024 * 1024


class TestManyAtOnce:
    def test_two_hundred_without_cross_talk(self, gateway, users):
        async def shuffled(received, reader, writer):
            await asyncio.sleep(random.random() / 20)
            writer.write(
                answer(received.target.encode() + b" " + received.body, headers=f"X-Own: {received['x-own']}\r\n")
            )

        users.behave = shuffled
        failures: list[str] = []

        def client(number: int) -> None:
            with gateway.connect() as connection:
                for turn in range(5):
                    token = f"{number}-{turn}"
                    data = request(
                        "PUT",
                        f"/api/users/{token}",
                        f"X-Own: {token}",
                        f"X-Request-Id: r{token}",
                        body=token.encode() * 50,
                    )
                    response = connection.send(data).answer()
                    expected = (f"/users/{token} ".encode() + token.encode() * 50, token, f"r{token}")
                    if (response.body, response["x-own"], response["x-request-id"]) != expected:
                        failures.append(token)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert len(users.requests) == 1000
        assert users.connections <= 200


@pytest.fixture(scope="module")
def patient(_users, tmp_path_factory):
    with running(tmp_path_factory.mktemp("gateway"), USERS_URL=_users.url, GATEWAY_TIMEOUT_SECONDS="600") as gateway:
        yield gateway


class TestThatLeave:
    """Disconnects are noticed: the request would time out only after ten minutes."""

    @pytest.fixture
    def gateway(self, patient):
        return patient

    @pytest.fixture(autouse=True, params=["new connection", "idle connection"])
    def connection(self, request, gateway, users):
        """What goes on a connection that has been used before goes another way through the gateway."""
        if request.param == "idle connection":
            gateway.ask("GET", "/api/users")
            users.requests.clear()

    def test_while_the_service_works_cancel_its_work(self, gateway, users):
        users.behave = hangs
        with gateway.connect() as client:
            client.send(request("GET", "/api/users"))
            eventually(lambda: users.requests, within=60)
        eventually(lambda: users.open == 0, within=60)
        eventually(lambda: gateway.metric("http_server_active_requests") == 0, within=60)

    @pytest.mark.parametrize("length", [100, 200_000])
    def test_do_not_reach_the_service_before_their_body_is_complete(self, gateway, users, length):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", f"Content-Length: {length}", body=b"x" * (length - 1)))
            eventually(lambda: gateway.metric("http_server_active_requests") == 1, within=60)
        eventually(lambda: gateway.metric("http_server_active_requests") == 0, within=60)
        assert not users.requests

    def test_during_the_response(self, gateway, users):
        async def endless(received, reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()
                await asyncio.sleep(0.01)

        users.behave = endless
        with gateway.connect() as client:
            client.send(request("GET", "/api/users"))
            assert client.socket.recv(1000)
        eventually(lambda: users.open == 0, within=60)

    def test_are_counted_and_logged_as_such(self, gateway, users):
        token = str(uuid.uuid4())
        before = gateway.metric(REQUESTS, http_route="/api/users", http_response_status_code="499")
        users.behave = hangs
        with gateway.connect() as client:
            client.send(request("GET", "/api/users", f"X-Request-Id: {token}"))
            eventually(lambda: users.requests, within=60)
        eventually(
            # More than one where a client of the test before is only now counted; the log line below is this one's own.
            lambda: gateway.metric(REQUESTS, http_route="/api/users", http_response_status_code="499") > before,
            within=60,
        )
        (line,) = eventually(lambda: [line for line in gateway.log_lines() if line["request_id"] == token], within=60)
        assert line["status"] == 499


class TestThatAreSlow:
    SIZE = 64 * MEGABYTE
    LARGE, HELD = 96 * MEGABYTE, 64 * MEGABYTE
    """A response, and more than the gateway and the system hold of it. One socket may have a buffer of 32 MB."""

    def test_a_slow_reader_slows_the_service_when_buffers_are_full(self, users, another_gateway):
        gateway = another_gateway(
            USERS_URL=users.url, GATEWAY_BODY_MEMORY_BYTES=str(MEGABYTE), GATEWAY_BODY_FILE_BYTES=str(8 * MEGABYTE)
        )
        written = 0

        async def large(received, reader, writer):
            nonlocal written
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.LARGE)
            piece = b"x" * 65_536
            while written < self.LARGE:
                writer.write(piece)
                await writer.drain()
                written += len(piece)
            return CLOSE

        users.behave = large
        gateway.ask("GET", "/health/live")
        before = gateway.memory()
        with gateway.connect() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            client.send(request("GET", "/api/users"))
            client.socket.recv(1000)
            self._until_still(lambda: written)
            assert written < self.HELD
            assert gateway.memory() - before < 8 * MEGABYTE
            received = 0
            while piece := client.socket.recv(MEGABYTE):
                received += len(piece)
                if written == self.LARGE and received >= self.LARGE - 1000:
                    break
        assert received >= self.LARGE - 1000

    def test_bodies_waiting_for_a_slow_service_are_not_in_memory(self, users, another_gateway):
        gateway = another_gateway(
            USERS_URL=users.url, GATEWAY_MAX_BODY_BYTES=str(self.SIZE), GATEWAY_BODY_MEMORY_BYTES=str(MEGABYTE)
        )
        go = threading.Event()
        users.reads_body = False
        body = random.randbytes(self.SIZE)
        got = b""

        async def wait_then_read(received, reader, writer):
            nonlocal got
            while not go.is_set():
                await asyncio.sleep(0.01)
            got = await reader.readexactly(self.SIZE)
            writer.write(answer())

        users.behave = wait_then_read
        gateway.ask("GET", "/health/live")
        before = gateway.memory()
        with gateway.connect() as client:
            client.send(request("PUT", "/api/users/1", body=body))
            eventually(lambda: users.requests, within=60)
            assert gateway.memory() - before < 8 * MEGABYTE
            go.set()
            assert client.answer().status == 200
        assert got == body

    def test_bodies_beyond_the_limit_of_files_are_rejected(self, users, another_gateway):
        gateway = another_gateway(
            USERS_URL=users.url, GATEWAY_BODY_MEMORY_BYTES="100000", GATEWAY_BODY_FILE_BYTES="200000"
        )
        with gateway.connect() as client:
            response = client.send(request("PUT", "/api/users/1", body=b"x" * 250_000)).answer()
            assert (response.status, response["retry-after"]) == (503, "1")
        eventually(lambda: [line for line in gateway.log_lines() if line.get("reason") == "no_room"], within=60)
        assert not users.requests
        # It has left no trace: the next ones have all of the room.
        assert [gateway.ask("PUT", "/api/users/1", body=b"x" * 150_000).status for _ in range(3)] == [200] * 3

    @staticmethod
    def _until_still(value) -> None:
        seen = [-1, -1, -1, -1, -1, -1, -1, -1]

        def still() -> bool:
            seen.append(value())
            return seen[-1] > 0 and len(set(seen[-8:])) == 1

        eventually(still, within=60, every=0.03)
