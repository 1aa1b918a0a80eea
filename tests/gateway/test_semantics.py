"""Methods, Host, forwarding, the two ports, and the log of failures."""

import json
import signal

import pytest

from embedded.ports import listens
from tests.gateway.clients import free_port, request
from tests.gateway.test_limits import is_problem
from tests.gateway.upstreams import answer, closes, hangs, sends
from tests.waiting import eventually

PAGES = [
    "/",
    "/api",
    "/api/docs",
    "/api/schema",
    "/api/asyncapi",
    "/health/live",
    "/health/ready",
    "/static/rest_framework/css/default.css",
]


class TestMethods:
    @pytest.mark.parametrize("path", ["/api/users", "/", "/metrics"])
    @pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
    def test_that_are_not_supported(self, gateway, users, method, path):
        response = gateway.ask(method, "localhost:80" if method == "CONNECT" else path, "Cookie: secret")
        assert is_problem(response, 405)
        assert {"GET", "POST", "OPTIONS"} <= set(response["allow"].split(", "))
        assert b"secret" not in response.body
        assert not users.requests

    @pytest.mark.parametrize("method", ["get", "G", "A" * 40, "FOO.BAR", "Get"])
    def test_unknown(self, gateway, users, method):
        assert is_problem(gateway.ask(method, "/api/users"), 501)
        assert not users.requests

    @pytest.mark.parametrize("path", PAGES)
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_that_a_page_does_not_have(self, gateway, path, method):
        response = gateway.ask(method, path, "Content-Type: application/json", body=b"{}")
        assert is_problem(response, 405)
        assert "GET" in response["allow"]

    def test_options_of_everything(self, gateway, users):
        response = gateway.ask("OPTIONS", "*")
        assert (response.status, response.body) == (200, b"")
        assert "PATCH" in response["allow"]
        assert not users.requests


class TestForwarding:
    def test_it_reports_that_it_was_present(self, gateway, users):
        gateway.ask("GET", "/api/users")
        gateway.ask("GET", "/api/users", "Via: 1.0 fred", "Via: 1.1 p.example")
        gateway.raw(b"GET /api/users HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert [received["via"] for received in users.requests] == [
            "1.1 gateway", "1.0 fred, 1.1 p.example, 1.1 gateway", "1.0 gateway",
        ]  # fmt: skip

    def test_options_respect_max_forwards(self, gateway, users):
        assert gateway.ask("OPTIONS", "/api/users", "Max-Forwards: 3").status == 200
        assert users.requests[0]["max-forwards"] == "2"
        for none in ("0", "00"):
            response = gateway.ask("OPTIONS", "/api/users", f"Max-Forwards: {none}")
            assert response.status == 200
            assert response["allow"]
        assert len(users.requests) == 1

    def test_a_url_of_eight_thousand_bytes_passes(self, gateway, users):
        target = "/api/users?" + "x" * (8_000 - len("/api/users?"))
        assert gateway.ask("GET", target).status == 200
        assert users.requests[0].target == target.removeprefix("/api")


class TestHost:
    @pytest.mark.parametrize("path", [*PAGES, "/metrics", "/api/users", "/nothing"])
    def test_http_1_1_requires_one(self, gateway, users, path):
        assert gateway.raw(f"GET {path} HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 400 ")
        assert not users.requests

    @pytest.mark.parametrize("path", ["/", "/health/live", "/api/users"])
    @pytest.mark.parametrize(
        "host", ["127.0.0.1:99999999", "127.0.0.1:70000", "a b", "[::1", "user@localhost", "localhost/x"]
    )
    def test_is_one_host_and_port(self, gateway, users, path, host):
        response = gateway.ask("GET", path, host=host)
        assert is_problem(response, 400)
        assert host.encode() not in response.body
        assert not users.requests

    def test_missing_in_http_1_0_is_the_first_served_host(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url, ALLOWED_HOSTS="api.example,localhost")
        for path in ("/api/users", "/", "/api/docs"):
            assert gateway.raw(f"GET {path} HTTP/1.0\r\n\r\n".encode()).startswith(b"HTTP/1.1 200 OK\r\n")
        assert users.requests[0]["x-forwarded-host"] == "api.example"

    def test_of_the_target_counts_on_pages(self, gateway):
        assert gateway.ask("GET", "http://localhost/", host="evil.example").status == 200
        assert gateway.ask("GET", "http://evil.example/").status == 400


class TestOwnAnswers:
    @pytest.mark.parametrize("path", [*PAGES, "/metrics", "/nothing", "/api/users/../x"])
    def test_are_not_sniffed_and_load_nothing_from_other_hosts(self, gateway, path):
        response = gateway.ask("GET", path)
        assert response["x-content-type-options"] == "nosniff"
        is_page = response["content-type"].startswith("text/html")
        assert response["content-security-policy"].startswith("default-src 'self'" if is_page else "default-src 'none'")

    def test_an_invalid_http_request_gets_the_same_response(self, gateway):
        with gateway.connect() as client:
            response = client.send(b"nonsense\r\n\r\n").answer()
        assert is_problem(response, 400)
        assert response["x-content-type-options"] == "nosniff"

    def test_headers_of_services_pass_as_they_are(self, gateway, users):
        users.behave = sends(answer(headers="Content-Security-Policy: default-src 'self'\r\n"))
        assert gateway.ask("GET", "/api/users")["content-security-policy"] == "default-src 'self'"

    @pytest.mark.parametrize(
        "value",
        ["application/json; charset*=bogus''%41", "text/plain; a*0*=x'y'%zz", "multipart/form-data; boundary*=a''%ff"],
    )
    @pytest.mark.parametrize("path", PAGES)
    def test_no_content_type_breaks_a_page(self, gateway, path, value):
        assert gateway.ask("GET", path, f"Content-Type: {value}").status == 200


class TestInternalPort:
    @pytest.fixture
    def ports(self, users, another_gateway):
        internal = free_port()
        gateway = another_gateway(USERS_URL=users.url, GATEWAY_INTERNAL_PORT=str(internal))
        eventually(lambda: listens(internal), what="the internal port is served")
        return gateway, type(gateway)(gateway.process, internal, gateway.log)

    def test_serves_the_internal_pages(self, ports, users):
        public, internal = ports
        for path in ("/metrics", "/health/ready"):
            assert is_problem(public.ask("GET", path), 404)
            assert internal.ask("GET", path).status == 200
        assert public.ask("GET", "/health/live").status == internal.ask("GET", "/health/live").status == 200

    @pytest.mark.parametrize("path", ["/api/users", "/", "/api/docs", "/nothing"])
    def test_has_nothing_else(self, ports, users, path):
        assert is_problem(ports[1].ask("GET", path), 404)
        assert not users.requests

    @pytest.mark.parametrize(
        "path", ["/metrics/", "//metrics", "/%6detrics", "/metrics;x", "/health/./ready", "/Metrics"]
    )
    def test_is_not_reached_by_another_spelling(self, ports, path):
        assert ports[0].ask("GET", path).status in {400, 404}


class TestLogOfFailures:
    def line(self, gateway, token):
        return eventually(lambda: [line for line in gateway.log_lines() if line["request_id"] == token], within=20)[0]

    @pytest.mark.parametrize(
        ("behave", "status", "reason"),
        [
            (closes, 502, "closed_without_response"),
            (hangs, 504, "timeout"),
            (sends(b"garbage\r\n\r\n", then="close"), 502, "invalid_response"),
        ],
    )
    @pytest.mark.parametrize("connection", ["new", "idle"])
    def test_logs_reason_and_replica(self, gateway, users, behave, status, reason, connection):
        if connection == "idle":
            gateway.ask("GET", "/api/users")
        users.behave = behave
        token = f"why-{reason}-{connection}"
        assert gateway.ask("GET", "/api/users", f"X-Request-Id: {token}").status == status
        line = self.line(gateway, token)
        assert (line["status"], line["reason"], line["replica"]) == (status, reason, users.url.removeprefix("http://"))
        assert line["level"] == "warning"

    def test_of_an_unavailable_service(self, another_gateway):
        port = free_port()
        gateway = another_gateway(USERS_URL=f"http://127.0.0.1:{port}")
        gateway.ask("GET", "/api/users", "X-Request-Id: away")
        line = self.line(gateway, "away")
        assert (line["reason"], line["replica"]) == ("not_connected", f"127.0.0.1:{port}")

    @pytest.mark.parametrize(
        ("method", "field", "reason"),
        [("get", "X: y", "unknown_method"), ("POST", "Transfer-Encoding: gzip, chunked", "unknown_coding")],
    )
    def test_logs_the_reason_without_a_replica(self, gateway, method, field, reason):
        assert gateway.ask(method, "/api/users", field, f"X-Request-Id: why-{reason}").status == 501
        assert self.line(gateway, f"why-{reason}")["reason"] == reason

    def test_of_a_service_error_names_the_replica(self, gateway, users):
        users.behave = sends(answer(status="503 Service Unavailable"))
        gateway.ask("GET", "/api/users", "X-Request-Id: theirs")
        line = self.line(gateway, "theirs")
        assert (line["status"], line["reason"], line["replica"]) == (503, "", users.url.removeprefix("http://"))

    def test_on_success_has_neither(self, gateway, users):
        gateway.ask("GET", "/api/users", "X-Request-Id: good")
        assert not {"reason", "replica"} & set(self.line(gateway, "good"))

    def test_each_line_about_a_request_has_its_id(self, gateway, users):
        """Also those that Django writes."""
        users.behave = hangs
        gateway.ask("GET", "/health/ready", "X-Request-Id: ready-id")
        gateway.ask("GET", "/nothing", "X-Request-Id: nothing-id")
        gateway.ask("GET", "/api/users", "X-Request-Id: hangs-id")
        self.line(gateway, "hangs-id")
        lines = [line for line in map(json.dumps, gateway.log_lines()) if '"logger": "django.request"' in line]
        assert all('"request_id": ""' not in line for line in lines), lines


def test_a_rejected_probe_leaves_no_line_without_an_id(users, another_gateway):
    gateway = another_gateway(USERS_URL=users.url, GATEWAY_DRAIN_SECONDS="10")
    gateway.process.send_signal(signal.SIGTERM)
    eventually(lambda: gateway.ask("GET", "/health/ready", "X-Request-Id: draining").status == 503, within=9)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(10) == 0
    assert [line for line in gateway.log_lines() if "/health/ready" in line["event"] and not line["request_id"]] == []


def test_the_next_request_is_served_after_each_error(gateway, users):
    """Where the connection stays, it is in step."""
    with gateway.connect() as client:
        for data, status in (
            (request("TRACE", "/api/users"), 405),
            (request("get", "/api/users"), 501),
            (request("POST", "/api/users/../x", body=b"abc"), 400),
            (request("POST", "/nothing", body=b"abc"), 404),
            (request("GET", "/api/users/1"), 200),
        ):
            assert client.send(data).answer().status == status
