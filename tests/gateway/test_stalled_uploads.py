"""Two hundred clients that stall within their bodies: the service, its probes and other clients do not notice."""

import contextlib
import json
import socket
import uuid
from pathlib import Path

import pytest

from tests.gateway.clients import Client, request, running
from tests.serving import database, gunicorn

CLIENTS = 200
REQUESTS = 12
THREADS = 8
ESTABLISHED = "01"


@pytest.fixture(scope="module")
def users():
    """The real service, with its eight threads."""
    with database("users") as environment, gunicorn("users", environment) as served:
        yield served


@pytest.fixture(scope="module")
def gateway(users, tmp_path_factory):
    with running(
        tmp_path_factory.mktemp("gateway"), USERS_URL=users.url, GATEWAY_BODY_MEMORY_BYTES="1000000"
    ) as gateway:
        yield gateway


@contextlib.contextmanager
def stalled(gateway):
    """Clients that have sent most of a large body, and then nothing more but a byte now and then."""
    with contextlib.ExitStack() as stack:
        head = request("POST", "/api/users", "Content-Type: application/json", "Content-Length: 500000")
        clients = [stack.enter_context(gateway.connect()) for _ in range(CLIENTS)]
        for client in clients:
            client.send(head + b" " * 70_000)
        yield clients


def connections_to(port):
    """How many connections to this port this machine has."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(fields[2].endswith(f":{port:04X}") and fields[3] == ESTABLISHED for fields in map(str.split, table))


def test_do_not_reach_the_service(gateway, users):
    """How little others wait for them is measured by `make bench ARGS="--only stalled"`."""
    port = int(users.url.rpartition(":")[2])
    with stalled(gateway) as clients, gateway.connect() as other:
        for number in range(REQUESTS):
            body = json.dumps({"email": f"{uuid.uuid4()}@example.org", "name": "A"}).encode()
            data = request("POST", "/api/users", "Content-Type: application/json", body=body)
            assert other.send(data if number % 3 == 0 else request("GET", "/api/users?limit=1")).answer().status < 300
            # Only the other's: idle ones, and one that is being closed.
            assert 0 < connections_to(port) < THREADS
        for client in clients:
            client.send(b" ")
        with Client(port) as probe:
            assert probe.send(request("GET", "/health/live")).answer().status == 200
        assert gateway.ask("GET", "/health/live").status == 200
        assert gateway.ask("GET", "/health/ready").json["parts"]["users"]["status"] != "down"
        assert gateway.metric("http_server_active_requests") == CLIENTS


def test_sent_data_is_not_in_memory(gateway):
    gateway.ask("GET", "/health/live")
    before = gateway.memory()
    with stalled(gateway):
        assert gateway.metric("http_server_active_requests") == CLIENTS
        # 14 MB have been sent, 1 MB may be kept; the rest is what the interpreter needs for the connections.
        assert gateway.memory() - before < 8_000_000


def test_a_body_buffered_in_a_file_is_forwarded_unchanged(gateway):
    body = json.dumps({"email": f"{uuid.uuid4()}@example.org", "name": "A"}).encode()
    padded = body + b" " * 400_000
    head = request("POST", "/api/users", "Content-Type: application/json", f"Content-Length: {len(padded)}")
    with stalled(gateway), gateway.connect() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.send(head + padded[:70_000])
        assert client.send(padded[70_000:]).answer().status == 201
