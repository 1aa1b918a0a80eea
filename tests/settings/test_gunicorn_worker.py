"""Clients of a service's own port that are slow, silent, or do not leave."""

import http.client
import json
import os
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from settings import client_socket
from tests.serving import gunicorn
from tests.waiting import eventually

THREADS = 2
MANY = 20
"""Enough to make the next client wait for more than PATIENCE_SECONDS, if each of them holds a thread or the main loop for some."""

PATIENCE_SECONDS = 30

HEAD = b"GET /users HTTP/1.1\r\nHost: localhost\r\n"
HOLDERS = {
    "silent": b"",
    "half a line": b"GET /us",
    "half a header": HEAD,
    "half a body": b"POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
    "half a chunk": b"POST /users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "reads nothing": b"GET /users/list HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "does not close": HEAD + b"Connection: close\r\n\r\n",
    "does not close what was refused": b"BAD\r\n\r\n",
}
ANSWERED = {HOLDERS["does not close"], HOLDERS["does not close what was refused"]}


@pytest.fixture(scope="module")
def port():
    environment = {**os.environ, "WEB_THREADS": str(THREADS)}
    with gunicorn("users", environment, application="tests.settings.impatient:application") as served:
        yield urlsplit(served.url).port


def connect(port):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE_SECONDS)
    client.connect(("127.0.0.1", port))
    return client


def read_all(client):
    received = b""
    while piece := client.recv(65_536):
        received += piece
    return received


@pytest.mark.parametrize("sent", HOLDERS.values(), ids=HOLDERS)
def test_a_client_that_stops_holds_up_no_other(port, sent):
    with ExitStack() as stack:
        holders = [stack.enter_context(connect(port)) for _ in range(MANY)]
        for holder in holders:
            holder.sendall(sent)
        if sent in ANSWERED:
            # gunicorn closes its side now, and the client does not.
            assert all(holder.recv(100) for holder in holders)

        other = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        other.request("POST", "/users", b"whole")
        answer = other.getresponse()
        assert (answer.status, answer.read()) == (200, b"5")
        other.close()


@pytest.mark.parametrize("sent", [HOLDERS["half a line"], HOLDERS["half a header"], HOLDERS["half a body"]])
def test_a_request_that_does_not_arrive_is_answered_and_closed(port, sent):
    with connect(port) as client:
        client.sendall(sent)
        head, _, body = read_all(client).partition(b"\r\n\r\n")

    status = int(head.split()[1])
    if b"POST" in sent:
        assert status == 400  # by the application, which cannot read it
    else:
        assert status == json.loads(body)["status"] == 408
        assert b"application/problem+json" in head


def test_a_header_that_arrives_byte_by_byte_is_too_slow_as_well(port):
    with connect(port) as client:
        client.sendall(HEAD)

        def is_closed():
            try:
                client.sendall(b"X: y\r\n")
            except OSError:
                return True
            return False

        eventually(is_closed)


def test_a_silent_client_is_closed(port):
    with connect(port) as client:
        assert read_all(client) == b""


def test_the_limit_is_of_a_request_not_of_a_connection(port):
    with connect(port) as client:
        for _ in range(3):
            client.sendall(HEAD + b"\r\n")
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert answer.read() == b"0"
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1)  # nothing more comes, and it is not closed
            client.settimeout(PATIENCE_SECONDS)


def test_a_refusal_is_not_lost_by_a_client_that_goes_on_sending(port):
    with connect(port) as client:
        client.sendall(b"BAD\r\n\r\n" + b"x" * 60_000)
        received = read_all(client)

    assert received.startswith(b"HTTP/1.1 400 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["status"] == 400


def test_garbage_is_collected_once_the_application_is_loaded(port):
    with connect(port) as client:
        client.sendall(b"GET /users/garbage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_all(client).endswith(b"\r\n\r\ncollected")


def test_what_has_arrived_is_read_even_after_the_limit(monkeypatch):
    monkeypatch.setattr(client_socket, "RECEIVE_SECONDS", 0)
    ours, theirs = socket.socketpair()
    with client_socket.ClientSocket(fileno=ours.detach()) as client, theirs:
        client.begin()
        theirs.sendall(b"x")
        assert client.recv(1) == b"x"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert client.is_late
        client.sendall(b"408")
        assert theirs.recv(3) == b"408"
