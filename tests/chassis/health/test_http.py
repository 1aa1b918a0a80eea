"""Health over HTTP: the pages of web processes and the port of workers."""

import concurrent.futures
import http.client
import json
import socket

import pytest
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from chassis.health import probe, registry, worker_server
from chassis.health.registry import Part
from chassis.observability import catalogue


class Fine(HealthCheck):
    def run(self):
        self.ran = True


class Down(HealthCheck):
    def run(self):
        raise ServiceUnavailable("does not answer")


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(registry, "_declared", None)
    monkeypatch.setattr(probe, "_told", {})
    monkeypatch.setattr(probe, "_runs", {})


class TestWeb:
    @pytest.fixture(autouse=True)
    def urls(self, settings):
        settings.ROOT_URLCONF = "chassis.health.urls"
        settings.MIDDLEWARE = ["chassis.observability.middleware.CorrelationMiddleware"]

    def test_live(self, client):
        answer = client.get("/health/live")
        assert (answer.status_code, answer.json()["status"]) == (200, "live")
        assert answer.headers["Content-Type"] == "application/json"
        assert "no-store" in answer.headers["Cache-Control"]

    def test_ready(self, client):
        registry.declare([Part("a", Fine())])
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")

    def test_not_ready_names_the_part(self, client):
        registry.declare([Part("a", Down())])
        answer = client.get("/health/ready", headers={"Accept": "text/html"})
        assert answer.status_code == 503
        assert answer.json()["parts"] == {"a": {"status": "down", "reason": "does not answer"}}

    def test_is_read_only(self, client):
        assert client.post("/health/ready").status_code == 405
        assert client.head("/health/live").status_code == 200


@pytest.fixture
def server(settings):
    catalogue.export("consume")
    settings.WORKER_HOST, settings.WORKER_PORT = "127.0.0.1", 0
    server = worker_server.start([Part("loop", Fine()), Part("broker", Down())])
    yield server
    server.stop()


def get(server: worker_server.Server, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


class TestWorkerServer:
    def test_live(self, server):
        status, kind, body = get(server, "/health/live")
        assert (status, kind, json.loads(body)["status"]) == (200, "application/json", "live")

    def test_ready_names_the_part(self, server):
        status, _, body = get(server, "/health/ready")
        assert status == 503
        assert json.loads(body)["parts"]["broker"] == {"status": "down", "reason": "does not answer"}

    def test_metrics(self, server):
        status, kind, body = get(server, "/metrics")
        assert status == 200
        assert kind.startswith("text/plain")
        assert b"# HELP events_consumed_total " in body

    def test_nothing_else(self, server):
        status, kind, body = get(server, "/admin")
        assert (status, kind) == (404, "application/problem+json")
        assert json.loads(body) == {"type": "about:blank", "title": "Not Found", "status": 404}

    def test_read_only_access(self, server):
        assert get(server, "/health/live", method="DELETE")[0] == 405

    def test_probes_at_the_same_time(self, server):
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            statuses = list(pool.map(lambda _: get(server, "/health/ready")[0], range(50)))
        assert statuses == [503] * 50

    def test_a_silent_client_blocks_no_other(self, server):
        with socket.create_connection(("127.0.0.1", server.port)):
            assert get(server, "/health/live")[0] == 200

    def test_a_port_that_is_taken_is_named(self, server, settings):
        settings.WORKER_PORT = server.port
        with pytest.raises(worker_server.PortTaken, match=f"WORKER_PORT {server.port}: "):
            worker_server.start([])
