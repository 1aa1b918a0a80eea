"""Kept connections to a process that restarts: reads are sent again, writes are sent once, on a new connection."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from console.failures import Away
from console.sources.http import Client, NoAnswer
from console.sources.processes import Process, Processes
from console.sources.staff import Staff
from embedded import ports
from tests.waiting import eventually


class Server(ThreadingHTTPServer):
    """Keeps connections open, as the services do; `stop` closes them, as the end of a process does."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.asked: list[tuple[str, int]] = []
        """The method of each request, and the port that its connection came from."""
        self.breaks = False
        """Whether it closes the connection once it has read a request."""
        self.sockets: list[socket.socket] = []
        self.closed = 0
        """How many connections have been closed."""
        super().__init__(("127.0.0.1", port), Handler)

    def get_request(self):
        connection, address = super().get_request()
        self.sockets.append(connection)
        return connection, address

    def shutdown_request(self, request):
        super().shutdown_request(request)
        self.closed += 1

    def stop(self) -> None:
        self.shutdown()
        for connection in self.sockets:
            with contextlib.suppress(OSError):  # it is closed
                connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.asked.append((self.command, self.client_address[1]))
        if self.server.breaks:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def serving(port: int) -> Iterator[Server]:
    with Server(port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


@pytest.fixture
def port() -> int:
    return ports.free(1)[0]


@pytest.fixture
def staff(port) -> Staff:
    url = f"http://127.0.0.1:{port}"
    return Staff(Processes([Process("orders", "orders", "web", url, url)]), "secret", "ada")


class TestRestart:
    def test_every_thread_can_write_after_a_restart(self, port, staff):
        """Each of the console's threads has a connection of its own, which the restart has closed."""
        all_here = threading.Barrier(6)

        def read_then_write() -> None:
            staff.get("orders", "info")
            all_here.wait(60)
            all_here.wait(60)
            staff.post("orders", "dead-letters/redrive", {})

        with ThreadPoolExecutor(5) as pool:
            with serving(port):
                done = [pool.submit(read_then_write) for _ in range(5)]
                all_here.wait(60)
            with serving(port) as again:
                all_here.wait(60)
                for one in done:
                    one.result(60)
        assert [method for method, _ in again.asked] == ["POST"] * 5

    def test_a_read_uses_the_kept_connection_and_after_a_restart_another_one(self, port, staff):
        with serving(port) as server:
            staff.get("orders", "info")
            staff.get("orders", "info")
        assert len({source for _, source in server.asked}) == 1
        with serving(port) as again:
            assert staff.get("orders", "info") == {}
        assert len(again.asked) == 1


class TestLost:
    def test_a_write_that_was_read_is_never_sent_again(self, port, staff):
        with serving(port) as server:
            staff.get("orders", "info")
            server.breaks = True
            with pytest.raises(Away, match="closed the connection without a response"):
                staff.post("orders", "dead-letters/discard", {})
            assert [method for method, _ in server.asked] == ["GET", "POST"]
            server.breaks = False
            assert staff.post("orders", "dead-letters/discard", {}) == {}

    def test_a_read_is_sent_again_once(self, port):
        client = Client(f"http://127.0.0.1:{port}", timeout=60)
        with serving(port) as server:
            client.request("GET", "/")
            server.breaks = True
            with pytest.raises(NoAnswer, match="closed the connection"):
                client.request("GET", "/")
            assert len(server.asked) == 3

    def test_a_connection_that_is_no_longer_used_is_closed(self, port):
        client = Client(f"http://127.0.0.1:{port}", timeout=60)
        with serving(port) as server:
            for _ in range(5):
                client.request("POST", "/")
            eventually(lambda: len(server.sockets) - server.closed == 1)
            assert len({source for _, source in server.asked}) == 5
