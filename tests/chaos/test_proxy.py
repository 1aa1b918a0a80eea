"""Links fail as requested, and heal."""

import socket
import socketserver
import threading
import time

import pytest

from chaos.proxy import Links
from embedded import ports


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1024):
            self.request.sendall(data)


@pytest.fixture
def link():
    here, there = ports.free(2)
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer((ports.HOST, there), Echo) as server, Links() as links:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield links.add("echo", here, there)
        server.shutdown()


def connect(link):
    connection = socket.create_connection((ports.HOST, link.port), timeout=60)
    connection.settimeout(60)
    return connection


def says(connection, text=b"hello"):
    connection.sendall(text)
    return connection.recv(1024) == text


def test_a_working_link_forwards_everything(link):
    with connect(link) as connection:
        assert says(connection)


def test_a_cut_link_resets_connections_until_it_heals(link):
    with connect(link) as connection:
        assert says(connection)
        link.cut()
        with pytest.raises(ConnectionResetError):
            says(connection)
    with pytest.raises(ConnectionResetError), connect(link) as connection:
        says(connection)
    link.heal()
    with connect(link) as connection:
        assert says(connection)


def test_a_reset_ends_old_connections_only(link):
    with connect(link) as connection:
        assert says(connection)
        link.reset()
        with pytest.raises(ConnectionResetError):
            says(connection)
    with connect(link) as connection:
        assert says(connection)


def test_a_hanging_link_delivers_when_it_heals(link):
    with connect(link) as connection:
        assert says(connection)
        link.hang()
        connection.sendall(b"later")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1024)
        link.heal()
        connection.settimeout(60)
        assert connection.recv(1024) == b"later"


def test_a_slow_link_delays_data_in_both_directions(link):
    with connect(link) as connection:
        assert says(connection)
        link.slow(0.2)
        began = time.monotonic()
        assert says(connection)
        assert time.monotonic() - began >= 0.4
