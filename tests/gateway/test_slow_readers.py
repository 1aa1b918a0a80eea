"""Clients that do not read their responses: the service is released immediately, and other clients do not notice."""

import contextlib
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.bodies import Chunked
from gateway.edge.outgoing import Spool
from gateway.edge.room import Room
from tests.gateway.clients import request, running
from tests.gateway.large_lists import LIST
from tests.serving import gunicorn
from tests.waiting import eventually

CLIENTS = 10
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def service():
    """A service with its eight threads."""
    environment = {**os.environ, "ENVIRONMENT": "development"}
    with gunicorn("users", environment, application="tests.gateway.large_lists:application") as served:
        yield served


@pytest.fixture(scope="module")
def gateway(service, tmp_path_factory):
    with running(
        tmp_path_factory.mktemp("gateway"),
        USERS_URL=service.url,
        GATEWAY_BODY_MEMORY_BYTES=str(16 * MEGABYTE),
        GATEWAY_TIMEOUT_SECONDS="600",
    ) as gateway:
        yield gateway


@contextlib.contextmanager
def readers(gateway, path, count=CLIENTS):
    """Clients that ask for a list, and read nothing of it."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = socket.socket()
            stack.enter_context(client)
            client.settimeout(60)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", gateway.port))
            client.sendall(request("GET", path, "Connection: close"))
            clients.append(client)
        yield clients


def whole(client):
    received = bytearray()
    while piece := client.recv(MEGABYTE):
        received += piece
    return received


def unchunked(data):
    body, rest = bytearray(), bytearray()
    rest += data
    assert Chunked().feed(rest, body.extend)
    return body


def no_thread_is_busy(gateway):
    response = gateway.ask("GET", "/api/users/busy")
    assert response.status == 200
    return response.body == b"0"


@pytest.mark.parametrize("path", ["/api/users", "/api/users/chunked"])
def test_occupy_no_thread_of_a_service(gateway, path):
    """More of them than it has threads; what does not fit into memory waits in files, and arrives as it was."""
    gateway.ask("GET", "/health/live")
    before = gateway.memory()
    with readers(gateway, path) as clients:
        eventually(lambda: gateway.metric("http_server_active_requests") == CLIENTS, within=60)
        eventually(lambda: no_thread_is_busy(gateway), within=60)
        assert gateway.ask("GET", "/api/users").body == LIST
        assert gateway.memory() - before < 40 * MEGABYTE
        for client in clients[:3]:
            head, _, body = whole(client).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert (unchunked(body) if b"chunked" in head else body) == LIST
    eventually(lambda: gateway.metric("http_server_active_requests") == 0, within=60)


def test_responses_of_pages_are_not_buffered(gateway):
    path = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    page = gateway.ask("GET", path).body
    before = gateway.memory()
    with readers(gateway, path, 100) as clients:
        for client in clients:
            assert client.recv(10)
        assert gateway.memory() - before < len(page) * 10
        assert whole(clients[0]).endswith(page[-1000:])


def test_are_evicted_when_only_they_wait(service, another_gateway):
    gateway = another_gateway(USERS_URL=service.url, GATEWAY_MAX_CONNECTIONS="4", GATEWAY_TIMEOUT_SECONDS="600")
    with readers(gateway, "/api/users", 4):
        eventually(lambda: no_thread_is_busy(gateway), within=60)
        assert gateway.metric("gateway_connections_evicted_total") > 0


def test_are_disconnected_after_their_time_limit(service, another_gateway):
    gateway = another_gateway(USERS_URL=service.url, GATEWAY_TIMEOUT_SECONDS="1")
    with readers(gateway, "/api/users", 1):
        [line] = eventually(lambda: [line for line in gateway.log_lines() if line.get("aborted")], within=60)
    assert (line["status"], line["reason"]) == (200, "slow_client")


@given(
    st.lists(st.one_of(st.binary(min_size=1, max_size=50), st.none()), max_size=60),
    st.integers(0, 200),
    st.integers(0, 400),
)
def test_buffered_bytes_are_returned_in_order(actions, max_memory, max_files):
    """None takes something out."""
    room = Room(max_memory=max_memory, max_files=max_files)
    kept, put, taken = Spool(room), b"", b""
    for action in actions:
        if action is None:
            taken += kept.take()
        else:
            kept.put(action)
            put += action
        assert room.memory <= max_memory
        assert room.files <= max_files
        assert bool(kept) == (len(taken) < len(put))
        assert put.startswith(taken)
    if actions and actions[-1] is None:
        kept.clear()
    while kept:
        taken += kept.take()
    assert (room.memory, room.files) == (0, 0)
    assert taken == put or actions[-1] is None
