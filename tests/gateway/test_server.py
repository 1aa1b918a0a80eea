"""The process: start, shutdown and logs."""

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from tests.gateway.clients import ROOT, request
from tests.gateway.upstreams import answer, closes
from tests.waiting import eventually


class TestShutdown:
    def test_requests_in_progress_are_answered(self, users, another_gateway):
        go = threading.Event()

        async def slow(received, reader, writer):
            while not go.is_set():
                await asyncio.sleep(0.01)
            writer.write(answer(b"done"))

        users.behave = slow
        gateway = another_gateway(USERS_URL=users.url)
        with gateway.connect() as client:
            client.send(request("GET", "/api/users"))
            eventually(lambda: users.requests, within=60)
            gateway.process.send_signal(signal.SIGTERM)
            eventually(lambda: "shutting down" in gateway.log.read_text(), within=60)
            go.set()
            response = client.answer()
        assert (response.status, response.body, response["connection"]) == (200, b"done", "close")
        assert gateway.process.wait(60) == 0

    def test_idle_connections_do_not_delay_it(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url)
        with gateway.connect() as client:
            client.send(request("GET", "/api/users")).answer()
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.process.wait(10) == 0  # before the patience of SHUTDOWN_SECONDS is over
        assert users.open == 0 or eventually(lambda: users.open == 0, within=60)

    def test_it_reports_draining_before_it_stops_listening(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url, GATEWAY_DRAIN_SECONDS="6")
        with gateway.connect() as client:
            assert client.send(request("GET", "/api/users")).answer().all("connection") == []
            gateway.process.send_signal(signal.SIGTERM)
            eventually(lambda: gateway.ask("GET", "/health/ready").status == 503, within=5)
            assert gateway.ask("GET", "/health/live").status == 200
            # It serves on, on connections old and new, and closes each with its answer.
            answer = client.send(request("GET", "/api/users")).answer()
            assert (answer.status, answer["connection"], client.closed()) == (200, "close", True)
        assert gateway.ask("POST", "/api/users").status == 200
        assert gateway.process.wait(60) == 0

    def test_a_second_signal_skips_the_wait(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url, GATEWAY_DRAIN_SECONDS="60")
        gateway.process.send_signal(signal.SIGTERM)
        eventually(lambda: gateway.ask("GET", "/health/ready").status == 503)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(30) == 0


class TestPatience:
    """With shorter limits, so that ten seconds become a fraction of a second."""

    HURRIED = """
import settings, django
django.setup()
from gateway import server
from gateway.edge import client, connections
client.HEAD_SECONDS, client.KEEP_ALIVE_SECONDS, client.CLOSE_SECONDS = 0.3, 0.3, 0.3
connections.TICK_SECONDS = 0.1
server.serve("127.0.0.1", PORT)
"""

    @pytest.fixture
    def hurried(self, users, another_gateway):
        return another_gateway(USERS_URL=users.url, command=("-c", self.HURRIED), GATEWAY_MAX_BODY_BYTES="1000")

    def test_with_silent_and_slow_clients(self, hurried, users):
        with hurried.connect() as client:
            assert client.answer().status == 408  # said nothing
            assert client.closed()
        with hurried.connect() as client:
            client.send(request("GET", "/api/users")).answer()
            assert client.closed()  # was idle
        with hurried.connect() as client:
            client.send(request("GET", "/api/users")).answer()
            for byte in b"GET /api/users HTTP/1.1\r\n":
                client.send(bytes([byte]))
            assert client.answer().status == 408  # stopped in its header
        with hurried.connect() as client:
            client.send(request("POST", "/api/users", "Content-Length: 100000"))
            assert client.answer().status == 413
            client.send(b"x" * 100)
            assert client.closed()  # stopped in a body that nobody wants
        assert hurried.ask("GET", "/api/users").status == 200


class TestLog:
    def test_each_request_is_logged_in_the_common_format(self, gateway, users):
        gateway.ask("GET", "/api/users/secret?email=a@b.example", "X-Request-Id: logged")
        (line,) = eventually(
            lambda: [line for line in gateway.log_lines() if line["request_id"] == "logged"], within=60
        )
        other = next(line for line in gateway.log_lines() if line["logger"] == "gateway.server")
        assert set(other) <= set(line)
        assert type(line["timestamp"]) is str
        assert len(line["timestamp"]) == len(other["timestamp"])
        assert {name: line[name] for name in ("event", "logger", "level", "service", "method", "route", "status")} == {
            "event": "request", "logger": "access", "level": "info", "service": "gateway",
            "method": "GET", "route": "/api/users", "status": 200,
        }  # fmt: skip
        assert users.requests[0]["traceparent"].split("-")[1:3] == [line["trace_id"], line["span_id"]]
        assert "secret" not in gateway.log.read_text()
        assert "b.example" not in gateway.log.read_text()

    def test_readable_in_development(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url, LOG_FORMAT="console")
        gateway.ask("GET", "/api/users", "X-Request-Id: readable")
        text = eventually(lambda: text if "readable" in (text := gateway.log.read_text()) else "", within=60)
        assert "/api/users" in text

    def test_nothing_below_the_level(self, users, another_gateway):
        gateway = another_gateway(USERS_URL=users.url, LOG_LEVEL="WARNING")
        assert gateway.ask("GET", "/api/users").status == 200
        users.behave = closes
        assert gateway.ask("GET", "/api/users").status == 502
        lines = eventually(gateway.log_lines, within=60)
        assert [line["status"] for line in lines if line["event"] == "request"] == [502]


class TestCommands:
    @pytest.mark.parametrize("command", [("PORT", "--noreload"), ("PORT",)])
    def test_runserver_serves_proxy_and_pages(self, users, another_gateway, command):
        gateway = another_gateway(USERS_URL=users.url, command=("manage.py", "runserver", *command))
        assert gateway.ask("GET", "/api/users/1").body == b"/users/1"
        assert gateway.ask("GET", "/health/live").status == 200

    def test_a_taken_port_is_an_error(self, gateway):
        command = [sys.executable, "manage.py", "serve", "--settings=settings.gateway", "--port", str(gateway.port)]
        ended = subprocess.run(
            command, cwd=ROOT, env={"ENVIRONMENT": "development"}, capture_output=True, timeout=120, check=False
        )
        assert ended.returncode != 0
        assert b"address already in use" in ended.stderr

    def test_checks_pass(self):
        command = [sys.executable, "manage.py", "check", "--settings=settings.gateway"]
        ended = subprocess.run(
            command, cwd=ROOT, env={"ENVIRONMENT": "development"}, capture_output=True, timeout=120, check=False
        )
        assert ended.returncode == 0, ended.stderr
