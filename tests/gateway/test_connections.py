"""Connections of clients: order, half-closing, HTTP/1.0, clients that do not read, and limits."""

import asyncio
import contextlib
import os
import re
import resource
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from gateway.edge.client import HEAD_SECONDS
from tests.gateway.clients import Client, free_port, request
from tests.gateway.test_limits import is_problem
from tests.gateway.upstreams import CLOSE, answer, hangs, sends
from tests.waiting import eventually

HURRIED = """
import settings, django
django.setup()
from gateway import server
from gateway.edge import client, connections
client.CLOSE_SECONDS, client.FLUSH_SECONDS = 0.3, 0.3
connections.TICK_SECONDS = 0.1
server.serve("127.0.0.1", PORT)
"""


def reads(client):
    """All that comes until the gateway closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.socket.recv(65_536):
            received += piece
    return received


def statuses(data):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


class TestOrder:
    """RFC 9112 9.3.2: responses are sent in the order of the requests."""

    def test_a_valid_request_is_answered_before_a_following_malformed_one(self, gateway, users):
        users.behave = sends(answer(b"made", status="201 Created"))
        data = gateway.raw(request("POST", "/api/users", body=b"{}") + b"BROKEN\r\n\r\n")
        assert statuses(data) == [201, 400]
        assert len(users.requests) == 1

    def test_so_are_the_gateways_own_pages(self, gateway):
        data = gateway.raw(request("GET", "/health/live") + request("GET", "/nothing") + b"\x00\r\n\r\n")
        assert statuses(data) == [200, 404, 400]

    def test_a_slow_response_delays_the_next_one(self, gateway, users):
        go = threading.Event()

        async def first_slow(received, reader, writer):
            while received.target == "/users/1" and not go.is_set():
                await asyncio.sleep(0.01)
            writer.write(answer(received.target.encode()))

        users.behave = first_slow
        with gateway.connect() as client:
            client.send(
                request("GET", "/api/users/1") + request("GET", "/api/users/2") + request("GET", "/health/live")
            )
            eventually(lambda: users.requests, within=60)
            go.set()
            assert [client.answer().body[:8] for _ in range(3)] == [b"/users/1", b"/users/2", b'{"status']

    def test_nothing_is_read_after_the_last_request(self, gateway, users):
        data = gateway.raw(
            request("GET", "/api/users/1", "Connection: close") + request("POST", "/api/users", body=b"x")
        )
        assert statuses(data) == [200]
        assert [received.method for received in users.requests] == ["GET"]


class TestHalfClosed:
    """A client that half-closes still gets the pending responses."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    @pytest.mark.parametrize("seconds", [0, 1.2])
    def test_gets_its_response(self, gateway, users, method, version, seconds):
        async def later(received, reader, writer):
            await asyncio.sleep(seconds)
            writer.write(answer(b"done"))

        users.behave = later
        with gateway.connect() as client:
            client.send(request(method, "/api/users", body=b"{}").replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
            client.socket.shutdown(socket.SHUT_WR)
            data = reads(client)
        assert [status for status in statuses(data) if status >= 200] == [200]
        assert data.endswith(b"done")
        assert b" 100 " not in data or version == "1.1"

    def test_gets_all_of_them(self, gateway, users):
        with gateway.connect() as client:
            client.send(b"".join(request("GET", f"/api/users/{number}") for number in range(3)))
            client.socket.shutdown(socket.SHUT_WR)
            assert statuses(reads(client)) == [200, 200, 200]

    def test_also_from_a_page(self, gateway):
        with gateway.connect() as client:
            client.send(request("GET", "/api/docs"))
            client.socket.shutdown(socket.SHUT_WR)
            assert b"</html>" in reads(client)

    @pytest.mark.parametrize("path", ["/api/users", "/health/live"])
    @pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
    def test_within_its_body_is_rejected(self, gateway, users, path, framing):
        with gateway.connect() as client:
            client.send(request("POST", path, framing, body=b"5\r\nabc"))
            client.socket.shutdown(socket.SHUT_WR)
            assert is_problem(client.answer(), 400)
            assert client.closed()
        assert not users.connections

    def test_within_its_header_is_rejected(self, gateway, users):
        with gateway.connect() as client:
            client.send(b"GET /api/users HTTP/1.1\r\nHost: local")
            client.socket.shutdown(socket.SHUT_WR)
            assert is_problem(client.answer(), 400)

    @pytest.mark.parametrize("gone", ["closed", "reset"])
    def test_a_disconnected_client_does_not_occupy_the_service(self, gateway, users, gone):
        users.behave = hangs
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", body=b"x"))
            eventually(lambda: users.requests, within=60)
            if gone == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        eventually(lambda: users.open == 0, within=3)


class TestHttp10:
    HEAD = b"%b /api/users HTTP/1.0\r\nHost: localhost\r\n%b\r\n"

    def ask(self, gateway, fields=b"", body=b"", method=b"GET"):
        return gateway.raw(self.HEAD % (method, fields) + body)

    def test_the_connection_closes_after_the_response(self, gateway, users):
        data = self.ask(gateway)
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close\r\n" in data
        assert data.endswith(b"/users")

    def test_it_is_not_told_to_continue(self, gateway, users):
        data = self.ask(gateway, b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc", b"POST")
        assert statuses(data) == [200]

    def test_it_gets_no_chunks(self, gateway, users):
        async def pieces(received, reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(b"3\r\ndef\r\n0\r\n\r\n")

        users.behave = pieces
        data = self.ask(gateway)
        assert b"transfer-encoding" not in data
        assert data.endswith(b"\r\n\r\nabcdef")

    def test_it_may_offer_an_upgrade(self, gateway, users):
        assert statuses(self.ask(gateway, b"Connection: Upgrade\r\nUpgrade: h2c\r\n")) == [200]

    def test_it_must_not_have_a_transfer_coding(self, gateway, users):
        data = self.ask(gateway, b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"POST")
        assert statuses(data) == [400]

    def test_close_is_close_in_any_list_and_case(self, gateway, users):
        for value in ("close", "Close", "keep-alive, CLOSE", "foo,close ,bar"):
            with gateway.connect() as client:
                client.send(request("GET", "/api/users", f"Connection: {value}"))
                assert client.answer()["connection"] == "close"
                assert client.closed()


class TestThatDoNotRead:
    """A connection is closed some seconds after it should be, even if the client does not read."""

    @pytest.fixture
    def hurried(self, users, another_gateway):
        return another_gateway(
            USERS_URL=users.url,
            command=("-c", HURRIED),
            GATEWAY_TIMEOUT_SECONDS="1",
            GATEWAY_CONNECT_TIMEOUT_SECONDS="1",
        )

    @staticmethod
    def connections(gateway):
        """How many sockets of clients the gateway's process has."""
        sockets = 0
        for descriptor in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                sockets += os.readlink(descriptor).startswith("socket:")
        return sockets

    def stalled(self, gateway, data):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", gateway.port))
        client.settimeout(2)
        with contextlib.suppress(OSError):
            client.sendall(data)
        return client

    def test_pipelined_requests(self, hurried, users):
        users.behave = sends(answer(b"x" * 30_000))
        before = self.connections(hurried)
        with self.stalled(hurried, request("GET", "/api/users") * 350):
            eventually(lambda: users.requests, within=60)
            eventually(lambda: self.connections(hurried) <= before + 1, within=60)
            assert len(users.requests) < 350
            assert hurried.ask("GET", "/health/live").status == 200
            assert hurried.metric("http_server_active_requests") == 0

    def test_a_large_response(self, hurried, users):
        async def large(received, reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(500):
                    writer.write(b"x" * 100_000)
                    await writer.drain()
            return CLOSE

        users.behave = large
        before = self.connections(hurried)
        with self.stalled(hurried, request("GET", "/api/users")):
            eventually(lambda: users.requests, within=60)
            eventually(lambda: users.open == 0, within=60)
            eventually(lambda: self.connections(hurried) <= before, within=60)

    def test_a_response_before_the_close(self, hurried, users):
        users.behave = sends(answer(b"x" * 60_000))
        before = self.connections(hurried)
        with self.stalled(
            hurried, request("GET", "/api/users") * 20 + request("GET", "/api/users", "Connection: close")
        ):
            eventually(lambda: users.requests, within=60)
            eventually(lambda: self.connections(hurried) <= before + 1, within=60)


SILENT = 300


class TestHowMany:
    def few_descriptors(self, users, another_gateway, **variables):
        """A gateway that may open 256 files."""
        program = (
            "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256));"
            " os.execv(sys.executable, [sys.executable, 'manage.py', 'serve', '--port', 'PORT'])"
        )
        return another_gateway(USERS_URL=users.url, command=("-c", program), **variables)

    @pytest.fixture
    def crowd(self):
        """Makes silent connections."""
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 2 * SILENT
        with contextlib.ExitStack() as stack:

            def come(gateway, count, data=b""):
                clients = []
                for _ in range(count):
                    client = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
                    clients.append(stack.enter_context(client))
                    with contextlib.suppress(OSError):
                        client.sendall(data)
                return clients

            yield come

    def test_silent_ones_do_not_stall_new_ones(self, users, another_gateway, crowd):
        gateway = self.few_descriptors(users, another_gateway)
        crowd(gateway, SILENT)
        started = time.monotonic()
        assert [gateway.ask("GET", "/api/users/1").status for _ in range(20)] == [200] * 20
        assert time.monotonic() - started < HEAD_SECONDS, "until the silent ones are disconnected"
        assert gateway.metric("gateway_connections_evicted_total") >= SILENT - 100

    def test_a_connection_that_waits_for_its_response_is_not_evicted(self, users, another_gateway, crowd):
        go = threading.Event()

        async def slow(received, reader, writer):
            while received.target == "/users/slow" and not go.is_set():
                await asyncio.sleep(0.01)
            writer.write(answer(b"done"))

        users.behave = slow
        gateway = self.few_descriptors(users, another_gateway, GATEWAY_MAX_CONNECTIONS="20")
        with gateway.connect() as client:
            client.send(request("GET", "/api/users/slow"))
            eventually(lambda: users.requests, within=60)
            crowd(gateway, 50, request("POST", "/api/users", "Content-Length: 100", body=b"x"))
            assert gateway.ask("GET", "/api/users").status == 200
            go.set()
            assert client.answer().body == b"done"

    def test_when_all_wait_for_responses_new_connections_are_rejected(self, users, another_gateway, crowd):
        users.behave = hangs
        gateway = another_gateway(USERS_URL=users.url, GATEWAY_MAX_CONNECTIONS="5")
        crowd(gateway, 5, request("GET", "/api/users"))
        eventually(lambda: len(users.requests) == 5, within=60)
        with gateway.connect() as client:
            response = client.answer()
            assert is_problem(response, 503)
            assert response["retry-after"] == "1"
            assert client.closed()

    def test_the_internal_port_has_no_limit(self, users, another_gateway, crowd):
        users.behave = hangs
        internal = free_port()
        gateway = another_gateway(USERS_URL=users.url, GATEWAY_MAX_CONNECTIONS="5", GATEWAY_INTERNAL_PORT=str(internal))
        crowd(gateway, 5, request("GET", "/api/users"))
        eventually(lambda: len(users.requests) == 5, within=60)
        for _ in range(3):
            with Client(internal) as probe:
                assert probe.send(request("GET", "/health/live")).answer().status == 200
        with gateway.connect() as client:
            assert is_problem(client.answer(), 503)

    @pytest.mark.parametrize("cap", ["GATEWAY_MAX_CONNECTIONS", "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS"])
    def test_rejected_connections_evict_none(self, users, another_gateway, crowd, cap):
        users.behave = hangs
        gateway = another_gateway(USERS_URL=users.url, **{cap: "5"})
        crowd(gateway, 5, request("GET", "/api/users"))
        eventually(lambda: len(users.requests) == 5, within=60)
        crowd(gateway, 10, request("GET", "/api/users"))
        time.sleep(0.5)
        assert len(users.requests) == 5

    def test_one_address_does_not_use_up_the_limit_of_others(self, users, another_gateway, crowd):
        gateway = another_gateway(USERS_URL=users.url, GATEWAY_MAX_CONNECTIONS_PER_ADDRESS="10")
        other = socket.create_connection(("127.0.0.1", gateway.port), source_address=("127.0.0.9", 0), timeout=10)
        with other:
            crowd(gateway, 30)
            other.sendall(request("GET", "/api/users/1", "Connection: close"))
            received = b""
            while piece := other.recv(65_536):
                received += piece
            assert statuses(received) == [200]
        assert gateway.metric("gateway_connections_evicted_total") >= 20

    def test_a_trusted_proxy_has_more_connections_than_one_client_may(self, users, another_gateway, crowd):
        gateway = another_gateway(
            USERS_URL=users.url, GATEWAY_MAX_CONNECTIONS_PER_ADDRESS="10", TRUSTED_PROXIES="127.0.0.0/8"
        )
        crowd(gateway, 30)
        with gateway.connect() as client:
            assert client.send(request("GET", "/api/users/1")).answer().status == 200
        assert gateway.metric("gateway_connections_evicted_total") == 0


class TestLastAnswers:
    def test_late_data_does_not_truncate_the_response(self, gateway):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10)
            client.connect(("127.0.0.1", gateway.port))
            client.sendall(request("GET", "/static/rest_framework/css/bootstrap.min.css", "Connection: close"))
            for _ in range(2):
                time.sleep(0.1)
                client.sendall(b"\r\n")
            time.sleep(0.1)
            received = b""
            while piece := client.recv(65_536):
                received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}\r\n".encode() in head


class TestAddresses:
    @pytest.fixture
    def dual(self, users, another_gateway):
        if not socket.has_dualstack_ipv6():
            pytest.skip("this machine has no IPv6")
        command = ("manage.py", "serve", "--host", "::", "--port", "PORT")
        return another_gateway(USERS_URL=users.url, command=command, ALLOWED_HOSTS="localhost,::1,fd00::5")

    def test_ipv4_and_ipv6_are_both_served(self, dual, users):
        assert dual.ask("GET", "/api/users").status == 200
        assert users.requests[0]["x-forwarded-for"] == "127.0.0.1"
        with socket.create_connection(("::1", dual.port), timeout=10) as client:
            client.sendall(request("GET", "/api/users", "Connection: close", host="[fd00::5]:8000"))
            assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert users.requests[1]["x-forwarded-for"] == "::1"
        assert users.requests[1]["x-forwarded-host"] == "[fd00::5]:8000"

    def test_pages_are_served_there_too(self, dual):
        assert dual.ask("GET", "/", host="[::1]:8000").status == 200
        assert dual.ask("GET", "/", host="[::2]:8000").status == 400
