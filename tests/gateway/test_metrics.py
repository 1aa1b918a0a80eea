"""The metrics of the gateway: exact counts under a mixed load, a bounded number of time series, and clocks of their own."""

import asyncio
import contextlib
import http.client
import re
import resource
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

import services
from gateway.problems import Reason
from tests.gateway.clients import REQUESTS, Client, free_port, request, running
from tests.gateway.test_limits import is_problem
from tests.gateway.upstreams import CLOSE, Upstream, answer, closes, hangs, sends
from tests.waiting import eventually

MAX_BODY = 20_000
EACH = 15
BUSY = 4096
LAG = "gateway_event_loop_lag_seconds"

Series = tuple[str, frozenset[tuple[str, str]]]


def scraped(gateway) -> dict[Series, float]:
    """All time series by name and labels, without django-prometheus's own."""
    text = gateway.ask("GET", "/metrics").body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith(("django_", "python_gc_", "process_"))
    }


def by(samples: dict[Series, float], name: str, *labels: str) -> Counter:
    """The sums of a metric by the values of these labels."""
    sums: Counter = Counter()
    for (found, pairs), value in samples.items():
        if found == name:
            sums[tuple(dict(pairs)[label] for label in labels)] += int(value)
    return +sums


def labelled(samples: dict[Series, float], name: str, label: str) -> dict[str, float]:
    """The values of a metric by this label, its only one or one that differs in every series."""
    return {dict(pairs)[label]: value for (found, pairs), value in samples.items() if found == name}


@pytest.fixture
def gateway(users, orders, another_gateway):
    """A gateway whose metrics no other test has touched."""
    return another_gateway(
        USERS_URL=users.url,
        ORDERS_URL=",".join(replica.url for replica in orders),
        GATEWAY_TIMEOUT_SECONDS="3",
        GATEWAY_MAX_BODY_BYTES=str(MAX_BODY),
    )


async def as_asked(received, reader, writer):
    """Behave as the last segment of the target says."""
    match received.target.rpartition("/")[2]:
        case "missing":
            writer.write(answer(status="404 Not Found"))
        case "closes":
            return await closes(received, reader, writer)
        case "hangs":
            return await hangs(received, reader, writer)
        case _:
            writer.write(answer())
    return None


def leave(gateway, users):
    """Send a request, and disconnect after the service has received it."""
    target = f"/api/users/{uuid.uuid4()}/hangs"
    with gateway.connect() as client:
        client.send(request("GET", target))
        eventually(lambda: any(target.endswith(received.target) for received in list(users.requests)))
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def asks(method, target, body=b""):
    return lambda gateway, users: gateway.ask(method, target, body=body).status


LOAD = {
    ("GET", "200"): asks("GET", "/api/users/1"),
    ("PUT", "200"): asks("PUT", "/api/users/1", b"{}"),
    ("GET", "404"): asks("GET", "/api/users/missing"),
    ("POST", "413"): asks("POST", "/api/users", b"x" * (MAX_BODY + 1)),
    ("PATCH", "502"): asks("PATCH", "/api/users/closes", b"{}"),
    ("GET", "504"): asks("GET", "/api/users/hangs"),
    ("GET", "499"): leave,
}


class TestRequests:
    def test_each_is_counted_once_under_a_mixed_load(self, gateway, users):
        users.behave = as_asked
        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(send, gateway, users) for _ in range(EACH) for send in LOAD.values()]
            statuses = Counter(each.result() for each in answers)
        assert statuses == {200: 2 * EACH, 404: EACH, 413: EACH, 502: EACH, 504: EACH, None: EACH}
        eventually(lambda: gateway.metric("http_server_active_requests") == 0)
        samples = scraped(gateway)
        counted = by(samples, REQUESTS, "http_request_method", "http_route", "http_response_status_code")
        assert counted == {(method, "/api/users", status): EACH for method, status in LOAD}
        assert by(samples, "gateway_errors_total", "reason") == {
            ("body_too_large",): EACH, ("upstream_closed",): EACH, ("upstream_timeout",): EACH,
        }  # fmt: skip
        assert by(samples, "gateway_client_disconnects_total") == {(): EACH}
        measured = by(samples, "gateway_upstream_seconds_count", "upstream", "replica")
        assert measured == {("users", users.url.removeprefix("http://")): EACH * (len(LOAD) - 1)}

        def logged():
            lines = [line for line in gateway.log_lines() if line["logger"] == "access"]
            return Counter((line["method"], str(line["status"])) for line in lines)

        eventually(lambda: logged() == dict.fromkeys(LOAD, EACH))

    def test_are_measured_in_less_than_a_millisecond(self, gateway, users):
        """The loop's clock has milliseconds: by it, most of these would take no time at all."""
        for _ in range(20):
            gateway.ask("GET", "/api/users/1")
        total = gateway.metric("http_server_request_duration_seconds_sum")
        upstream = gateway.metric("gateway_upstream_seconds_sum")
        assert 0 < upstream < total
        assert total * 1000 % 1 != 0

    def test_probes_and_scrapes_are_not_counted(self, gateway, users):
        for path in ("/health/live", "/health/ready", "/metrics"):
            gateway.ask("GET", path)
        users.behave = hangs
        users.requests.clear()
        with gateway.connect(timeout=60) as client:
            client.send(request("GET", "/health/ready"))
            eventually(lambda: users.requests)
            assert gateway.metric("http_server_active_requests") == 0
            assert client.answer().status in {200, 504}
        assert not by(scraped(gateway), REQUESTS, "http_route")

    def test_active_ones(self, gateway, users):
        users.behave = hangs
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(gateway.connect()).send(request("GET", "/api/users"))
            eventually(lambda: gateway.metric("http_server_active_requests") == 3)
        eventually(lambda: gateway.metric("http_server_active_requests") == 0)

    def test_rejected_ones_have_no_route(self, gateway):
        assert gateway.ask("get", "/api/users").status == 501
        labels = {"http_request_method": "_OTHER", "http_route": "", "http_response_status_code": "501"}
        assert gateway.metric(REQUESTS, **labels) == 1
        assert gateway.metric("gateway_errors_total", reason="unknown_method") == 1


class TestTimeSeries:
    def test_clients_cannot_create_any(self, gateway, users, orders):
        def ask(method, path):
            for route in ("/api/users", "/api/orders", "", "/api"):
                gateway.ask(method, f"{route}{path}")

        for method in ("PROPFIND", "GET", "invented"):
            ask(method, "/known")
        before = scraped(gateway).keys()
        for number in range(30):
            name = f"INVENT{chr(65 + number % 26)}{chr(65 + number // 26)}"
            ask(name if number % 2 else name.lower(), "/known")
        for number in range(100):
            ask("GET", f"/invented-{number}")
        after = scraped(gateway)
        assert after.keys() == before
        assert not [pairs for _, pairs in after if any("nvent" in value for _, value in pairs)]

    def test_reasons_and_upstreams_are_at_zero_from_the_start(self, gateway, users, orders):
        samples = scraped(gateway)
        reasons = [str(reason) for reason in Reason if reason != Reason.SLOW_CLIENT]
        assert labelled(samples, "gateway_errors_total", "reason") == dict.fromkeys(reasons, 0)
        upstreams = [service.name for service in services.BEHIND_GATEWAY]
        for name in ("gateway_retries_total", "gateway_connect_failures_total", "gateway_aborted_answers_total"):
            assert labelled(samples, name, "upstream") == dict.fromkeys(upstreams, 0), name
        measured = labelled(samples, "gateway_upstream_seconds_count", "replica")
        assert {replica.url.removeprefix("http://") for replica in (users, *orders)} <= measured.keys()
        assert set(measured.values()) == {0}


class TestUpstreamSeconds:
    def test_show_which_replica_is_slow(self, gateway, orders):
        slow, _ = orders

        async def late(received, reader, writer):
            await asyncio.sleep(0.3)
            writer.write(answer())

        slow.behave = late
        assert [gateway.ask("GET", "/api/orders").status for _ in range(6)] == [200] * 6
        names = [replica.url.removeprefix("http://") for replica in orders]
        seconds = [gateway.metric("gateway_upstream_seconds_sum", replica=name) for name in names]
        assert seconds[0] >= 0.9 > seconds[1]

    def test_end_with_the_head_of_a_long_response(self, gateway, users):
        go = threading.Event()

        async def streams(received, reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            await writer.drain()
            while not go.is_set():
                await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")

        users.behave = streams
        with gateway.connect() as client:
            client.send(request("GET", "/api/users"))
            eventually(lambda: gateway.metric("gateway_upstream_seconds_count", upstream="users") == 1)
            go.set()
            assert client.answer().body == b"a"
        assert gateway.metric("gateway_upstream_seconds_count", upstream="users") == 1

    def test_requests_of_the_gateway_itself_are_not_measured(self, gateway, users, orders):
        gateway.ask("GET", "/health/ready")
        gateway.ask("GET", "/api/schema")
        assert users.requests
        assert gateway.metric("gateway_upstream_seconds_count") == 0
        assert gateway.metric("gateway_connect_failures_total") == 0


class TestEventLoop:
    def test_shows_for_how_long_a_process_was_stopped(self, gateway):
        assert gateway.metric(LAG) < 1
        gateway.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(1.5)
        finally:
            gateway.process.send_signal(signal.SIGCONT)
        assert eventually(lambda: (lag := gateway.metric(LAG)) > 1 and lag) < 60

    def test_connections(self, gateway):
        idle = gateway.metric("gateway_connections")
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(gateway.connect())
            eventually(lambda: gateway.metric("gateway_connections") == idle + 20)
        eventually(lambda: gateway.metric("gateway_connections") == idle)


class TestParts:
    """They are checked without a probe, and a scrape waits for none of them."""

    def test_follow_the_services(self, users, orders, another_gateway):
        users.behave = sends(answer(b'{"status": "ready"}'))
        for replica in orders:
            replica.behave = sends(answer(b'{"status": "degraded"}'))
        gateway = another_gateway(
            USERS_URL=users.url,
            ORDERS_URL=",".join(replica.url for replica in orders),
            PAYMENTS_URL=f"http://127.0.0.1:{free_port()}",
            GATEWAY_CHECK_EVERY_SECONDS="0.2",
        )

        def state():
            samples = scraped(gateway)
            return labelled(samples, "health_part_status", "part"), labelled(samples, "dependency_up", "dependency")

        parts = {"listener": 1, "users": 1, "orders": 0.5, "payments": 0}
        eventually(lambda: state() == (parts, {"users": 1, "orders": 1, "payments": 0}))
        users.behave = sends(answer(b'{"status": "unavailable"}', status="503 Service Unavailable"))
        eventually(lambda: state()[1]["users"] == 0 == state()[0]["users"])
        users.behave = sends(answer(b'{"status": "ready"}'))
        eventually(lambda: state()[1]["users"] == 1 == state()[0]["users"])

    def test_are_at_zero_until_the_first_check_has_ended(self, users, another_gateway):
        users.behave = hangs
        gateway = another_gateway(USERS_URL=users.url, GATEWAY_CHECK_EVERY_SECONDS="600")
        samples = scraped(gateway)
        upstreams = {service.name for service in services.BEHIND_GATEWAY}
        assert labelled(samples, "health_part_status", "part").keys() == {"listener", *upstreams}
        assert labelled(samples, "dependency_up", "dependency") == dict.fromkeys(upstreams, 0)

    def test_are_absent_without_a_clock(self, gateway):
        assert not [name for name, _ in scraped(gateway) if name in {"dependency_up", "health_part_status"}]


@pytest.fixture
def busy_users():
    """A service whose requests never end, in a thread of its own."""
    upstream = Upstream(behave=hangs)
    yield upstream
    upstream.stop()


def test_metrics_are_served_while_every_connection_is_busy(busy_users, tmp_path):
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 2 * BUSY + 200
    internal = free_port()
    with (
        running(
            tmp_path,
            USERS_URL=busy_users.url,
            GATEWAY_INTERNAL_PORT=str(internal),
            GATEWAY_TIMEOUT_SECONDS="600",
            GATEWAY_CONNECT_TIMEOUT_SECONDS="60",
        ) as gateway,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(BUSY):
            stack.enter_context(gateway.connect(timeout=60)).send(request("GET", "/api/users"))
        eventually(lambda: len(busy_users.requests) == BUSY, within=300)
        operator = type(gateway)(gateway.process, internal, gateway.log)
        for _ in range(5):
            with Client(internal, timeout=30) as scraper:
                assert scraper.send(request("GET", "/metrics")).answer().status == 200
        assert operator.metric("http_server_active_requests") == BUSY
        assert operator.metric("gateway_connections") >= BUSY
        with gateway.connect() as client:
            assert is_problem(client.answer(), 503)
        assert operator.metric("gateway_errors_total", reason="too_many_connections") == 1
        assert operator.metric("gateway_connections_refused_total") == 1


class TestLog:
    """Each response that the gateway itself made has a line with its reason and its ids."""

    def line(self, gateway, request_id):
        return eventually(lambda: [line for line in gateway.log_lines() if line["request_id"] == request_id])[0]

    def test_of_a_rejected_connection(self, users, another_gateway):
        users.behave = hangs
        gateway = another_gateway(USERS_URL=users.url, GATEWAY_MAX_CONNECTIONS="1")
        with gateway.connect() as busy:
            busy.send(request("GET", "/api/users"))
            eventually(lambda: users.requests)
            with gateway.connect() as client:
                response = client.answer()
        line = self.line(gateway, response.json["requestId"])
        assert (line["status"], line["reason"], line["level"]) == (503, "too_many_connections", "warning")
        assert len(line["trace_id"]) == 32

    def test_of_data_that_is_no_request(self, gateway):
        with gateway.connect() as client:
            response = client.send(b"nonsense\r\n\r\n").answer()
        line = self.line(gateway, response.json["requestId"])
        assert (line["status"], line["reason"], line["method"]) == (400, "invalid_request", "_OTHER")
        assert len(line["trace_id"]) == 32

    @pytest.mark.parametrize(
        ("method", "path", "reason"),
        [("get", "/api/users", "unknown_method"), ("GET", "/api/users/../x", "invalid_request")],
    )
    def test_of_a_rejected_request_continues_the_trace_of_its_client(self, gateway, method, path, reason):
        trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
        request_id = f"rejected-{reason}"
        gateway.ask(method, path, f"X-Request-Id: {request_id}", f"traceparent: 00-{trace_id}-00f067aa0ba902b7-01")
        line = self.line(gateway, request_id)
        assert (line["reason"], line["trace_id"]) == (reason, trace_id)

    @pytest.mark.parametrize("format", ["json", "console"])
    def test_of_a_503_without_room_for_the_body(self, users, another_gateway, format):
        gateway = another_gateway(
            USERS_URL=users.url, GATEWAY_BODY_MEMORY_BYTES="0", GATEWAY_BODY_FILE_BYTES="0", LOG_FORMAT=format
        )
        response = gateway.ask("POST", "/api/users", "X-Request-Id: no-room", body=b"{}")
        assert response.status == 503
        said = re.compile(r'status(=|":)503')
        line = eventually(
            lambda: [line for line in gateway.log.read_text().splitlines() if "no-room" in line and said.search(line)]
        )[0]
        assert "no_room" in line
        assert "trace_id" in line


def test_an_aborted_response_is_no_error_response(gateway, users):
    """A response that fails after it has started is aborted: it is no response of the gateway."""
    users.behave = sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc", then=CLOSE)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        gateway.ask("GET", "/api/users")
    eventually(lambda: gateway.metric("gateway_aborted_answers_total", upstream="users") == 1)
    assert gateway.metric("gateway_errors_total") == 0
