"""The gateway's own pages."""

import re
import socket
import struct
from html import unescape

import pytest

from tests.gateway.clients import free_port, request
from tests.gateway.test_limits import is_problem
from tests.gateway.upstreams import answer, hangs
from tests.waiting import eventually


class TestIndex:
    @pytest.mark.parametrize("path", ["/", "/api"])
    def test_for_programs(self, gateway, path):
        pages = gateway.ask("GET", path).json["pages"]
        assert {"/api/docs", "/api/users", "/api/orders", "/health/ready"} <= set(pages)

    def test_for_browsers(self, gateway):
        response = gateway.ask("GET", "/", "Accept: text/html,*/*;q=0.8")
        assert response["content-type"].startswith("text/html")
        assert b'<a href="/api/docs">' in response.body

    def test_every_page_exists(self, gateway, users, orders):
        for path in gateway.ask("GET", "/").json["pages"]:
            assert gateway.ask("GET", path).status == 200, path

    def test_in_development_it_leads_to_the_console(self, gateway, another_gateway):
        other = another_gateway(GATEWAY_CONSOLE_URL="http://127.0.0.1:8600/", ENVIRONMENT="development")
        assert b'href="http://127.0.0.1:8600/"' in other.ask("GET", "/", "Accept: text/html").body
        assert b"console" not in gateway.ask("GET", "/", "Accept: text/html").body

    def test_it_names_only_what_this_port_serves(self, another_gateway):
        pages = another_gateway(GATEWAY_INTERNAL_PORT=str(free_port())).ask("GET", "/").json["pages"]
        assert "/health/live" in pages
        assert not {"/health/ready", "/metrics"} & set(pages)


class TestDocs:
    def test_swagger_ui_is_served_locally(self, gateway):
        page = gateway.ask("GET", "/api/docs").body.decode()
        files = [unescape(file) for file in re.findall(r'(?:src|href)="([^"]+)"', page)]
        assert {file.split("/")[1] for file in files} == {"static", "api"}
        contents = {file: gateway.ask("GET", file) for file in files}
        assert {file: answer.status for file, answer in contents.items()} == dict.fromkeys(files, 200)
        (script,) = (answer for file, answer in contents.items() if file.startswith("/api/docs"))
        assert b"/api/schema" in script.body
        assert script["content-type"].startswith("application/javascript")

    def test_errors_are_problems(self, gateway):
        response = gateway.ask("POST", "/api/docs")
        assert (response.status, response["content-type"]) == (405, "application/problem+json")

    def test_allow_names_the_methods_that_are_allowed(self, gateway):
        allowed = gateway.ask("GET", "/api/docs")["allow"]
        assert allowed == gateway.ask("POST", "/api/docs")["allow"] == gateway.ask("OPTIONS", "/api/docs")["allow"]

    def test_pages_run_only_our_own_files(self, gateway):
        for path in ("/", "/api/docs"):
            response = gateway.ask("GET", path, "Accept: text/html")
            assert "default-src 'self'" in response["content-security-policy"]
            assert response["x-content-type-options"] == "nosniff"

    def test_the_styles_of_the_browsable_api_are_local(self, gateway):
        response = gateway.ask("GET", "/static/rest_framework/css/bootstrap.min.css")
        assert response.status == 200
        assert response["content-type"].startswith("text/css")

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_files_are_complete(self, gateway, method):
        path = "/static/rest_framework/css/bootstrap.min.css"
        whole = gateway.ask(method, path)
        part = gateway.ask(method, path, "Range: bytes=0-9", 'If-Range: "of another version"')
        assert (part.status, part["content-length"]) == (200, whole["content-length"])
        assert part.body == whole.body


class TestHealth:
    def test_live(self, gateway):
        assert gateway.ask("GET", "/health/live").status == 200

    def test_ready_although_services_are_down_and_says_which(self, gateway, users, orders):
        async def ready(received, reader, writer):
            assert received.target == "/health/ready"
            writer.write(answer(b'{"status": "ready"}'))

        async def unavailable(received, reader, writer):
            writer.write(answer(b'{"status": "unavailable"}', status="503 Service Unavailable"))

        users.behave = ready
        for replica in orders:
            replica.behave = unavailable
        response = gateway.ask("GET", "/health/ready")
        assert (response.status, response.json["status"]) == (200, "degraded")
        assert {name: part["status"] for name, part in response.json["parts"].items()} == {
            "listener": "up", "users": "up", "orders": "down", "payments": "down",
        }  # fmt: skip

    def test_ready_within_two_seconds_whatever_hangs(self, gateway, users):
        users.behave = hangs
        with gateway.connect(timeout=2) as client:
            response = client.send(request("GET", "/health/ready")).answer()
        assert response.json["parts"]["users"]["status"] == "down"


class TestErrors:
    @pytest.mark.parametrize(
        "path", ["/nothing", "/api/nothing", "/api/users1", "/static/nothing.css", "/admin/", "/%00", "/%ff"]
    )
    def test_nothing_listens(self, gateway, path):
        assert is_problem(gateway.ask("GET", path), 404)

    @pytest.mark.parametrize("path", ["/", "/api", "/api/schema", "/api/asyncapi", "/health/live"])
    def test_wrong_method(self, gateway, path):
        response = gateway.ask("POST", path, body=b"x")
        assert is_problem(response, 405)
        assert "GET" in response["allow"]

    def test_wrong_host(self, gateway):
        assert is_problem(gateway.ask("GET", "/", host="evil.example"), 400)


def test_a_client_that_leaves_is_no_error(gateway, users):
    users.behave = hangs
    with gateway.connect() as client:
        client.send(request("GET", "/health/ready", "X-Request-Id: leaves"))
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        eventually(lambda: users.requests, within=60)
    [line] = eventually(lambda: [line for line in gateway.log_lines() if line["request_id"] == "leaves"], within=60)
    assert line["status"] == 499
    assert gateway.ask("GET", "/health/live").status == 200
    assert not [line for line in gateway.log_lines() if line["logger"] == "asyncio"]
