"""What the gateway forwards, removes and adds."""

import asyncio
import re
import threading
import time
import uuid

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.gateway.clients import request
from tests.gateway.upstreams import CLOSE, answer, echo, sends
from tests.waiting import eventually

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class TestRequests:
    def test_go_to_their_service_without_the_prefix(self, gateway, users, orders):
        assert gateway.ask("GET", "/api/users/42").body == b"/users/42"
        assert gateway.ask("GET", "/api/orders?userId=42").body == b"/orders?userId=42"
        assert [request.target for request in users.requests] == ["/users/42"]

    @pytest.mark.parametrize(
        "rest",
        [
            "",
            "/",
            "/a%2Fb",
            "/%C3%A4%20%00",
            "?a=%2F&a=b+c",
            "/x?",
            "//y",
            "/%zz",
            "/a;b=c",
            "?q=a?b/../c",
            "/..a",
            "/'(!)*@:$,~",
        ],
    )
    def test_paths_and_queries_pass_unchanged(self, gateway, users, rest):
        gateway.ask("GET", f"/api/users{rest}")
        assert users.requests[0].target == f"/users{rest}".removesuffix("?")

    @given(st.text("abc019-._~%!$&'()*+,;=:@/", max_size=40).filter(lambda text: "%" not in text and "." not in text))
    @hypothesis_settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_path_passes_unchanged(self, gateway, users, rest):
        assert gateway.ask("GET", f"/api/users/{rest}").body == f"/users/{rest}".encode()

    def test_absolute_form(self, gateway, users):
        gateway.ask("GET", "http://localhost/api/users/1?a=b", host="elsewhere.example")
        assert users.requests[0].target == "/users/1?a=b"
        assert users.requests[0]["x-forwarded-host"] == "localhost"

    @pytest.mark.parametrize("path", ["/api/users", "/"])
    def test_an_absolute_form_with_another_host_is_rejected(self, gateway, users, path):
        assert gateway.ask("GET", f"http://elsewhere.example{path}").status == 400
        assert not users.requests

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
    def test_methods_and_bodies(self, gateway, users, method):
        response = gateway.ask(method, "/api/users/1", "Content-Type: application/json", body=b'{"name": "A"}')
        received = users.requests[0]
        assert (received.method, received.body, received["content-type"]) == (
            method,
            b'{"name": "A"}',
            "application/json",
        )
        assert response.body == b'{"name": "A"}'

    def test_header_fields_pass_with_their_values(self, gateway, users):
        gateway.ask(
            "GET",
            "/api/users",
            "Accept: text/html;q=0.9",
            "Cookie: a=b; c=d",
            "X-Own: one",
            "X-Own: two",
            'If-None-Match: W/"x"',
        )
        received = users.requests[0]
        assert received["accept"] == "text/html;q=0.9"
        assert received["cookie"] == "a=b; c=d"
        assert received.all("x-own") == ["one", "two"]
        assert received["if-none-match"] == 'W/"x"'

    def test_hop_by_hop_fields_do_not_pass(self, gateway, users):
        gateway.ask(
            "GET", "/api/users", "Connection: keep-alive, X-Nominated", "X-Nominated: secret", "Keep-Alive: timeout=5",
            "TE: trailers", "Trailer: X", "Proxy-Connection: close", "Proxy-Authorization: Basic eA==", "Expect: nothing",
            "X-Kept: yes",
        )  # fmt: skip
        names = {name for name, _ in users.requests[0].headers}
        assert names == {
            "host", "x-kept", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix",
            "x-request-id", "traceparent", "via",
        }  # fmt: skip

    def test_connection_cannot_remove_fields_of_the_gateway(self, gateway, users):
        gateway.ask("GET", "/api/users", "Connection: x-forwarded-for, x-request-id, host, traceparent")
        received = users.requests[0]
        assert received["x-forwarded-for"] == "127.0.0.1"
        assert received["x-request-id"]
        assert received["host"] == users.url.removeprefix("http://")

    def test_names_with_underscores_do_not_pass(self, gateway, users):
        gateway.ask("GET", "/api/users", "X_Forwarded_For: 6.6.6.6", "X_Request_Id: forged", "Content_Length: 5")
        assert not [name for name, _ in users.requests[0].headers if "_" in name]

    def test_chunked_bodies_that_are_small_get_a_length(self, gateway, users):
        with gateway.connect() as client:
            client.send(
                request("POST", "/api/users", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            )
            assert client.answer().body == b"abcde"
        assert users.requests[0]["content-length"] == "5"
        assert not users.requests[0].all("transfer-encoding")

    def test_large_bodies(self, gateway, users):
        body = bytes(range(256)) * 1000
        assert gateway.ask("PUT", "/api/users/1", body=body).body == body
        assert users.requests[0]["content-length"] == str(len(body))

    def test_large_chunked_bodies_also_get_a_length(self, gateway, users):
        chunk = b"x" * 9999
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", "Transfer-Encoding: chunked"))
            for _ in range(20):
                client.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            client.send(b"0\r\n\r\n")
            assert client.answer().body == chunk * 20
        assert users.requests[0]["content-length"] == str(len(chunk) * 20)
        assert not users.requests[0].all("transfer-encoding")

    def test_trailers_do_not_become_header_fields(self, gateway, users):
        body = b"3\r\nabc\r\n0\r\nX-Own: trailer\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", "Transfer-Encoding: chunked", body=body))
            assert client.answer().body == b"abc"
            client.send(request("GET", "/api/users"))
            assert client.answer().body == b"/users"
        assert not users.requests[0].all("x-own") + users.requests[1].all("x-own")

    def test_the_gateway_answers_expect_100_continue(self, gateway, users):
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", "Expect: 100-continue", "Content-Length: 3"))
            assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"abc")
            assert client.answer().body == b"abc"

    def test_pipelined_requests_are_answered_in_order(self, gateway, users):
        with gateway.connect() as client:
            client.send(b"".join(request("GET", f"/api/users/{number}") for number in range(5)))
            file = client.socket.makefile("rb")
            seen = []
            while len(seen) < 5:
                line = file.readline()
                if line == b"\r\n":
                    seen.append(file.read(8))
        assert seen == [f"/users/{number}".encode() for number in range(5)]


class TestForwarded:
    def test_the_service_gets_forwarded_fields(self, gateway, users):
        gateway.ask("GET", "/api/users", host="127.0.0.1:8000")
        received = users.requests[0]
        assert received["x-forwarded-for"] == "127.0.0.1"
        assert received["x-forwarded-proto"] == "http"
        assert received["x-forwarded-host"] == "127.0.0.1:8000"
        assert received["x-forwarded-prefix"] == "/api"

    def test_clients_cannot_set_it(self, gateway, users):
        gateway.ask(
            "GET", "/api/users", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.example", "X-Forwarded-Prefix: /evil", "X-Forwarded-Port: 1", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6",
        )  # fmt: skip
        received = users.requests[0]
        assert received["x-forwarded-for"] == "127.0.0.1"
        assert received["x-forwarded-proto"] == "http"
        assert received["x-forwarded-host"] == "localhost"
        assert received["x-forwarded-prefix"] == "/api"
        assert b"6.6.6.6" not in received.raw_head
        assert not received.all("x-forwarded-port")

    def test_a_trusted_proxy_in_front_can(self, users, another_gateway):
        gateway = another_gateway(
            USERS_URL=users.url, TRUSTED_PROXIES="10.0.0.0/8,127.0.0.1", ALLOWED_HOSTS="localhost,api.example"
        )
        gateway.ask(
            "GET", "/api/users", "X-Forwarded-For: 6.6.6.6, 10.0.0.1", "X-Forwarded-Proto: https",
            "X-Forwarded-Host: api.example", "X-Forwarded-Prefix: /outer",
        )  # fmt: skip
        received = users.requests[0]
        assert received["x-forwarded-for"] == "6.6.6.6, 10.0.0.1, 127.0.0.1"
        assert received["x-forwarded-proto"] == "https"
        assert received["x-forwarded-host"] == "api.example"
        assert received["x-forwarded-prefix"] == "/outer/api"

    def test_other_clients_than_the_trusted_proxy_cannot(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url, TRUSTED_PROXIES="10.0.0.0/8,127.0.0.2")
        gateway.ask(
            "GET",
            "/api/users",
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.example",
        )
        received = users.requests[0]
        assert (received["x-forwarded-for"], received["x-forwarded-proto"]) == ("127.0.0.1", "http")
        assert received["x-forwarded-host"] == "localhost"

    @pytest.mark.parametrize("host", ["evil.example", "localhost/evil", "", "localhost, evil.example", "a b"])
    def test_hosts_that_are_not_served_are_rejected(self, gateway, users, host):
        response = gateway.ask("GET", "/api/users", host=host)
        assert response.status == 400
        assert response["content-type"] == "application/problem+json"
        assert not users.requests


class TestRequestIds:
    def test_the_clients_id_is_used_forwarded_and_returned(self, gateway, users):
        response = gateway.ask("GET", "/api/users", "X-Request-Id: my-token.1")
        assert users.requests[0]["x-request-id"] == response["x-request-id"] == "my-token.1"

    @pytest.mark.parametrize("token", ["", "a b", "x" * 200, "<script>", "a,b", "\xe4"])
    def test_an_invalid_token_is_replaced(self, gateway, users, token):
        response = gateway.ask("GET", "/api/users", f"X-Request-Id: {token}")
        assert UUID4.fullmatch(response["x-request-id"])
        assert users.requests[0]["x-request-id"] == response["x-request-id"]

    def test_two_of_them_are_none(self, gateway, users):
        response = gateway.ask("GET", "/api/users", "X-Request-Id: a", "X-Request-Id: b")
        assert UUID4.fullmatch(response["x-request-id"])

    def test_without_one_each_request_gets_its_own(self, gateway, users):
        ids = {gateway.ask("GET", "/api/users")["x-request-id"] for _ in range(20)}
        assert len(ids) == 20
        assert all(uuid.UUID(token).version == 4 for token in ids)

    def test_the_services_own_id_is_not_returned(self, gateway, users):
        users.behave = sends(answer(headers="X-Request-Id: other\r\nServer: gunicorn\r\n"))
        response = gateway.ask("GET", "/api/users", "X-Request-Id: mine")
        assert response.all("x-request-id") == ["mine"]
        assert not response.all("server")
        assert len(response.all("date")) == 1

    @pytest.mark.parametrize("path", ["/", "/api/docs", "/nothing", "/health/live", "/metrics", "/api/users/../x"])
    def test_the_gateways_own_responses_also_have_it(self, gateway, path):
        assert gateway.ask("GET", path, "X-Request-Id: mine")["x-request-id"] == "mine"


class TestTraces:
    PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def test_the_clients_trace_continues(self, gateway, users):
        gateway.ask("GET", "/api/users", f"traceparent: {self.PARENT}", "tracestate: vendor=1")
        version, trace_id, span_id, flags = users.requests[0]["traceparent"].split("-")
        assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
        assert span_id != "b7ad6b7169203331"
        assert users.requests[0]["tracestate"] == "vendor=1"

    @pytest.mark.parametrize(
        "parent", ["", "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" + PARENT[2:], PARENT.upper()]
    )
    def test_one_is_started_if_there_is_none(self, gateway, users, parent):
        gateway.ask("GET", "/api/users", f"traceparent: {parent}", "tracestate: vendor=1")
        assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-00", users.requests[0]["traceparent"])
        assert not users.requests[0].all("tracestate")

    def test_with_an_exporter_the_request_is_a_span(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url, OTEL_TRACES_EXPORTER="console")
        gateway.ask("GET", "/api/users/secret", f"traceparent: {self.PARENT}")
        _, trace_id, span_id, flags = users.requests[0]["traceparent"].split("-")
        span = '"name": "GET /api/users"'
        log = eventually(lambda: text if span in (text := gateway.log.read_text()) else "", within=60)
        assert (trace_id, flags) == ("0af7651916cd43dd8448eb211c80319c", "01")
        assert f'"span_id": "0x{span_id}"' in log
        assert '"kind": "SpanKind.SERVER"' in log
        assert "secret" not in log

    @pytest.mark.parametrize(
        ("path", "status", "name"), [("/api/docs", 200, "GET /api/docs"), ("/no/such/page", 404, "GET")]
    )
    def test_the_span_of_a_page_says_what_was_requested_and_how_it_ended(self, another_gateway, path, status, name):
        gateway = another_gateway(OTEL_TRACES_EXPORTER="console")
        assert gateway.ask("GET", path).status == status
        span = eventually(lambda: next(line for line in gateway.log_lines() if "SERVER" in str(line.get("kind"))))
        described = span["attributes"]
        assert (span["name"], described["http.request.method"], described["http.response.status_code"]) == (
            name,
            "GET",
            status,
        )
        assert described["url.path"].startswith("/")
        assert "such" not in described["url.path"]

    def test_a_method_that_is_any_text_is_in_no_log_and_no_span(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url, OTEL_TRACES_EXPORTER="console")
        gateway.ask("ADALOVELACE", "/api/users")
        assert users.requests[0].method == "ADALOVELACE"
        # The probes of its readiness have spans too.
        eventually(lambda: '"name": "HTTP /api/users"' in gateway.log.read_text(), what="its span is exported")
        assert '"http.request.method": "_OTHER"' in gateway.log.read_text()
        assert eventually(lambda: [line for line in gateway.log_lines() if line.get("method") == "_OTHER"])
        assert "LOVELACE" not in gateway.log.read_text()


class TestAnswers:
    def test_status_header_and_body_pass(self, gateway, users):
        users.behave = sends(
            answer(
                b'{"id": 1}',
                status="201 Created",
                headers="Location: /api/users/1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n",
            )
        )
        response = gateway.ask("POST", "/api/users")
        assert (response.status, response.body, response["location"]) == (201, b'{"id": 1}', "/api/users/1")
        assert response.all("set-cookie") == ["a", "b"]

    def test_hop_by_hop_fields_do_not_pass(self, gateway, users):
        fields = [
            "Connection: keep-alive, X-Nominated",
            "X-Nominated: 1",
            "Keep-Alive: timeout=9",
            "Upgrade: h2c",
            "Trailer: X",
        ]
        users.behave = sends(answer(headers="".join(f"{field}\r\n" for field in fields)))
        response = gateway.ask("GET", "/api/users")
        assert {name.lower() for name, _ in response.headers} == {"date", "content-length", "x-request-id"}

    def test_head_has_a_length_and_no_body(self, gateway, users):
        users.behave = sends(b"HTTP/1.1 200 OK\r\nContent-Length: 107\r\n\r\n")
        with gateway.connect() as client:
            for _ in range(3):
                response = client.send(request("HEAD", "/api/users")).answer("HEAD")
                assert (response.status, response["content-length"], response.body) == (200, "107", b"")
        assert users.connections == 1

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    def test_responses_without_a_body(self, gateway, users, status):
        users.behave = sends(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nETag: x\r\n\r\n".encode())
        with gateway.connect() as client:
            for _ in range(2):
                response = client.send(request("GET", "/api/users")).answer()
                assert (response.status, response.body, response["etag"]) == (int(status[:3]), b"", "x")
        assert users.connections == 1

    def test_a_304_may_have_a_content_length(self, gateway, users):
        users.behave = sends(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 107\r\n\r\n")
        assert gateway.ask("GET", "/api/users").status == 304

    EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nKeep-Alive: timeout=9\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"

    def test_interim_responses_are_forwarded(self, gateway, users):
        users.behave = sends(self.EARLY, self.EARLY, answer(b"late"))
        data = gateway.raw(request("GET", "/api/users", "Connection: close"))
        hint = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
        assert data.startswith(hint + hint + b"HTTP/1.1 200 OK\r\n")
        assert data.endswith(b"late")
        assert data.count(b"link:") == 2

    def test_interim_responses_are_not_forwarded_to_http_1_0(self, gateway, users):
        users.behave = sends(self.EARLY, answer(b"late"))
        data = gateway.raw(b"GET /api/users HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")

    def test_chunked(self, gateway, users):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        users.behave = sends(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: dropped\r\n\r\n")
        response = gateway.ask("GET", "/api/users")
        assert (response.body, response["content-length"]) == (b"abcde", "5")
        assert not response.all("x-trailer")

    def test_until_the_end_of_the_connection(self, gateway, users):
        users.behave = sends(b"HTTP/1.0 200 OK\r\n\r\nabc", b"de", then=CLOSE)
        response = gateway.ask("GET", "/api/users")
        assert (response.status, response.body) == (200, b"abcde")

    def test_parts_are_forwarded_as_they_arrive(self, gateway, users):
        go = threading.Event()

        async def dribble(received, reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
            await writer.drain()
            while not go.is_set():
                await asyncio.sleep(0.01)
            writer.write(b"def")
            return CLOSE

        users.behave = dribble
        with gateway.connect() as client:
            client.send(request("POST", "/api/users", body=b"x" * 70_000))
            received = b""
            # The ids in the header may contain such letters too.
            while not received.endswith(b"abc"):
                received += client.socket.recv(1000)
            go.set()
            while not received.endswith(b"def"):
                received += client.socket.recv(1000)
        assert received.endswith(b"abcdef")

    def test_compressed_bodies_are_not_touched(self, gateway, users):
        users.behave = sends(answer(b"\x1f\x8bnot really", headers="Content-Encoding: gzip\r\n"))
        response = gateway.ask("GET", "/api/users")
        assert (response.body, response["content-encoding"]) == (b"\x1f\x8bnot really", "gzip")

    def test_connections_to_a_service_are_reused(self, gateway, users):
        for _ in range(20):
            assert gateway.ask("GET", "/api/users").status == 200
        assert users.connections == 1

    def test_replicas_take_turns(self, gateway, orders):
        for _ in range(20):
            assert gateway.ask("GET", "/api/orders").status == 200
        assert [len(replica.requests) for replica in orders] == [10, 10]

    def test_a_request_takes_milliseconds(self, gateway, users):
        """Nothing waits for a timer, as Nagle's algorithm would for 40 ms; the quickest of many shows it on any machine."""
        users.behave = echo
        gateway.ask("GET", "/api/users")
        took = []
        with gateway.connect() as client:
            for _ in range(100):
                started = time.perf_counter()
                client.send(request("GET", "/api/users")).answer()
                took.append(time.perf_counter() - started)
        assert min(took) < 0.02
