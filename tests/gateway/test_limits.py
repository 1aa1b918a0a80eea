"""Requests that are too large, too slow or ambiguous."""

import asyncio
import socket

import pytest

from tests.gateway.clients import request
from tests.gateway.conftest import MAX_BODY
from tests.gateway.upstreams import answer
from tests.waiting import eventually


def is_problem(response, status):
    assert (response.status, response["content-type"]) == (status, "application/problem+json")
    assert response.json["status"] == status
    assert response.json["type"] == "about:blank"
    assert response.json["title"]
    assert response.json["requestId"] == response["x-request-id"]
    return True


class TestBodies:
    def test_of_the_largest_size_pass(self, gateway, users):
        assert gateway.ask("POST", "/api/users", body=b"x" * MAX_BODY).status == 200

    def test_larger_bodies_are_rejected_by_content_length(self, gateway, users):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", f"Content-Length: {MAX_BODY + 1}", "Expect: 100-continue"))
            assert is_problem(client.answer(), 413)
        assert not users.requests

    def test_larger_chunked_bodies_are_rejected_while_received(self, gateway, users):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", "Transfer-Encoding: chunked"))
            chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
            for _ in range(MAX_BODY // 65_536 + 1):
                client.send(chunk)
            assert is_problem(client.answer(), 413)
            # It may end its body, and ask for something else.
            client.send(chunk + b"0\r\n\r\n" + request("GET", "/api/users/1"))
            assert client.answer().body == b"/users/1"
        assert [received.target for received in users.requests] == ["/users/1"]

    def test_a_rejected_client_can_finish_sending_and_retry(self, gateway, users):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", body=b"x" * (MAX_BODY + 1)))
            assert is_problem(client.answer(), 413)
            assert client.send(request("GET", "/api/users/1")).answer().body == b"/users/1"

    def test_but_not_forever(self, gateway, users):
        def send_on(client):
            for _ in range(2000):
                client.send(b"x" * 50_000)

        with gateway.connect() as client:
            client.send(request("POST", "/api/users", "Content-Length: 100000000"))
            with pytest.raises(ConnectionError):
                send_on(client)

    def test_a_missing_process_is_not_waited_for(self, gateway, users):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", "Content-Length: 10", body=b"x"))
            response = client.answer()
            assert is_problem(response, 408)
            assert response["connection"] == "close"
        assert not users.requests

    def test_an_incomplete_upload_does_not_reach_the_service(self, gateway, users):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", "Content-Length: 200000", body=b"x" * 100_000))
            assert is_problem(client.answer(), 408)
        assert not users.connections  # nothing of it came

    def test_the_gateways_own_pages_accept_none(self, gateway):
        response = gateway.ask("POST", "/nothing", body=b"x" * 2_000_000)
        assert is_problem(response, 404)


class TestHeaders:
    @pytest.mark.parametrize(
        "headers",
        [["X: " + "x" * 9_000], [f"X-{n}: {'x' * 7_000}" for n in range(5)], [f"X-{n}: 1" for n in range(95)]],
    )
    def test_that_are_too_large(self, gateway, users, headers):
        assert is_problem(gateway.ask("GET", "/api/users", *headers), 431)
        assert not users.requests

    def test_of_the_maximum_size(self, gateway, users):
        headers = [f"X-{n}: {'x' * 300}" for n in range(88)]
        assert gateway.ask("GET", "/api/users", *headers).status == 200

    def test_that_do_not_end(self, gateway):
        with gateway.connect() as client:
            client.send(b"GET /api/users HTTP/1.1\r\nHost: localhost\r\nX: ")
            client.send(b"x" * 33_000)
            assert is_problem(client.answer(), 431)
            assert client.closed()

    def test_a_target_that_is_too_long(self, gateway, users):
        assert is_problem(gateway.ask("GET", "/api/users?" + "x" * 8_000), 414)
        assert gateway.ask("GET", "/api/users?" + "x" * (8_000 - len("/api/users?"))).status == 200

    @pytest.mark.parametrize("size", [9_000, 70_000, 1_000_000])
    def test_a_target_that_does_not_end(self, gateway, users, size):
        with gateway.connect() as client:
            client.send(b"GET /api/users?" + b"x" * size)
            assert is_problem(client.answer(), 414)
            assert client.closed()

    def test_limits_apply_to_the_gateways_own_pages(self, gateway):
        with gateway.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"x" * 40_000)
            assert is_problem(client.answer(), 431)


CHUNKED = "Transfer-Encoding: chunked"


class TestSmuggling:
    """Two readers of one message must not see two different messages."""

    HIDDEN = b"GET /users/hidden HTTP/1.1\r\nHost: x\r\n\r\n"

    @pytest.mark.parametrize(
        "headers",
        [
            ["Content-Length: 5", CHUNKED],
            [CHUNKED, "Content-Length: 5"],
            ["Content-Length: 5", "Content-Length: 6"],
            ["Content-Length: 5", "Content-Length: 5"],
            ["Content-Length: 5, 6"],
            ["Content-Length: +5"],
            ["Content-Length: 0x5"],
            ["Content-Length: 99999999999999999999999"],
            ["Content-Length : 5"],
            ["Transfer-Encoding: xchunked"],
            ["Transfer-Encoding: gzip, chunked"],
            [CHUNKED, "Transfer-Encoding: identity"],
            ["Transfer-Encoding : chunked"],
            ["Transfer-Encoding:\x0bchunked"],
            ["X: a\rTransfer-Encoding: chunked"],
            ["X: a\nTransfer-Encoding: chunked"],
            ["X: a\x00b"],
            [" X: folded"],
            ["X y: 1"],
            ["X: a", " folded"],
        ],
    )
    def test_ambiguous_framing_is_rejected(self, gateway, users, headers):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", *headers, body=b"0\r\n\r\n" + self.HIDDEN))
            response = client.answer()
        assert response.status in {400, 501}
        assert response["content-type"] == "application/problem+json"
        assert not users.requests

    @pytest.mark.parametrize(
        "chunk",
        [b"-1\r\n", b"5;\x00\r\nabcde\r\n", b"fffffffffffffffff\r\n", b"5\nabcde\r\n", b"5\r\nabcdeX\r\n", b"zz\r\n"],
    )
    def test_malformed_chunks_are_rejected(self, gateway, users, chunk):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", CHUNKED, body=chunk + b"0\r\n\r\n"))
            assert is_problem(client.answer(), 400)
            assert client.closed()
        assert not users.requests

    def test_obscured_chunking_is_not_ignored(self, gateway, users):
        body = b"0\r\n\r\n" + self.HIDDEN
        gateway.raw(request("POST", "/api/users", "Transfer-Encoding:\tchunked", "Connection: close", body=body))
        assert [received.target for received in users.requests] == ["/users"]
        assert users.requests[0].body == b""

    def test_underscored_length_does_not_count(self, gateway, users):
        assert gateway.ask("POST", "/api/users", "Content_Length: 100", body=b"abc").body == b"abc"

    @pytest.mark.parametrize(
        "start", [b"GET /api/users", b"GET /api/users HTTP/9.9", b"\x16\x03\x01\x02", b"G\xe4T / HTTP/1.1"]
    )
    def test_invalid_http(self, gateway, users, start):
        with gateway.connect() as client:
            response = client.send(start + b"\r\nHost: localhost\r\n\r\n").answer()
            assert is_problem(response, 400)
            assert client.closed()
        assert not users.requests

    @pytest.mark.parametrize("target", ["/api/users\xe4", "/api/users\x7f", "/api/us\ters", "*", "api/users"])
    def test_strange_targets_reach_no_service(self, gateway, users, target):
        assert gateway.ask("GET", target).status in {400, 404}
        assert not users.requests

    def test_a_host_is_required(self, gateway, users):
        with gateway.connect() as client:
            client.send(b"GET /api/users HTTP/1.1\r\n\r\n")
            assert is_problem(client.answer(), 400)

    def test_two_hosts_are_none(self, gateway, users):
        assert is_problem(gateway.ask("GET", "/api/users", "Host: evil.example"), 400)

    @pytest.mark.parametrize(
        "path", ["/api/users/../admin", "/api/users/%2e%2e/admin", "/api/users/..%2fadmin", "/api/users/./x"]
    )
    def test_dot_segments_are_refused(self, gateway, users, path):
        response = gateway.ask("GET", path)
        assert is_problem(response, 400)
        assert response.json["instance"] == path
        assert not users.requests

    @pytest.mark.parametrize(
        "path",
        ["/api/admin", "/admin/", "/api//users", "//api/users", "/api/usersx", "/users", "/metrics/../api/users"],
    )
    def test_unknown_paths_reach_no_service(self, gateway, users, path):
        assert gateway.ask("GET", path).status == 404
        assert not users.requests


class TestUpgrades:
    """RFC 9110 7.8: an offer may be ignored, and the request is processed as if it had not been made."""

    OFFERS = (
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"],
        ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"],
        ["Connection: Upgrade", "Upgrade: TLS/1.0, HTTP/1.1"],
        ["Upgrade: h2c"],
    )

    @pytest.mark.parametrize("offer", OFFERS)
    @pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
    @pytest.mark.parametrize("framing", ["Content-Length: 14", "Transfer-Encoding: chunked"])
    def test_are_ignored_and_the_body_is_kept(self, gateway, users, offer, method, framing):
        body = b'{"name": "An"}' if "Length" in framing else b'e\r\n{"name": "An"}\r\n0\r\n\r\n'
        with gateway.connect() as client:
            client.send(request(method, "/api/users/1", *offer, framing, body=body) + request("GET", "/api/users/2"))
            assert client.answer().body == b'{"name": "An"}'
            assert client.answer().body == b"/users/2"
        names = {name for name, _ in users.requests[0].headers}
        assert not names & {"upgrade", "http2-settings", "connection"}

    @pytest.mark.parametrize("offer", OFFERS)
    def test_are_ignored_by_the_gateways_own_pages(self, gateway, offer):
        with gateway.connect() as client:
            client.send(request("POST", "/health/live", *offer, body=b"x" * 10) + request("GET", "/health/live"))
            assert is_problem(client.answer(), 405)
            assert client.answer().json["status"] == "live"

    def test_tunnels_are_refused(self, gateway, users):
        with gateway.connect() as client:
            client.send(b"CONNECT /api/users:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.answer("CONNECT").status in {400, 404}
        assert not users.requests


class TestServicesThatSmuggle:
    """A service, or an attacker in its name, must not be able to respond to another client's request."""

    @pytest.mark.parametrize(
        "surplus",
        [answer(b"forged"), b"HTTP/1.1 200 OK\r\n", b"x", b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
    )
    def test_data_after_a_response_belongs_to_no_request(self, gateway, users, surplus):
        async def twice(received, reader, writer):
            writer.write(answer(received.target.encode()) + surplus)

        users.behave = twice
        for number in range(3):
            assert gateway.ask("GET", f"/api/users/{number}").body == f"/users/{number}".encode()
        assert users.connections == 3

    def test_data_on_an_idle_connection_belongs_to_no_request(self, gateway, users):
        async def late(received, reader, writer):
            writer.write(answer(received.target.encode()))
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(answer(b"forged"))

        users.behave = late
        assert gateway.ask("GET", "/api/users/1").body == b"/users/1"
        eventually(lambda: users.open == 0, within=60)
        assert gateway.ask("GET", "/api/users/2").body == b"/users/2"

    @pytest.mark.parametrize("method", ["HEAD", "GET"])
    def test_an_unexpected_body_is_not_treated_as_a_request(self, gateway, users, method):
        async def behave(received, reader, writer):
            status = "200 OK" if method == "HEAD" else "204 No Content"
            writer.write(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", status=status))

        users.behave = behave
        for _ in range(2):
            assert gateway.ask(method, "/api/users").body == b""
        assert users.connections == 2

    @pytest.mark.parametrize(
        "head",
        [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Content-Length: five\r\n",
            "X: a\x00b\r\nContent-Length: 5\r\n",
            "X : 1\r\nContent-Length: 5\r\n",
            "X: " + "x" * 100_000 + "\r\nContent-Length: 5\r\n",
        ],
    )
    def test_ambiguous_responses_are_rejected(self, gateway, users, head):
        async def behave(received, reader, writer):
            writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + b"0\r\n\r\nx")

        users.behave = behave
        assert is_problem(gateway.ask("GET", "/api/users"), 502)
        users.reset()
        assert gateway.ask("GET", "/api/users").body == b"/users"

    def test_switching_protocols_is_refused(self, gateway, users):
        async def behave(received, reader, writer):
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw")

        users.behave = behave
        assert is_problem(gateway.ask("GET", "/api/users"), 502)


def test_a_silent_connection_costs_little(gateway):
    """Many of them do not keep others from being answered."""
    silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(100)]
    try:
        assert gateway.ask("GET", "/health/live").status == 200
    finally:
        for connection in silent:
            connection.close()
