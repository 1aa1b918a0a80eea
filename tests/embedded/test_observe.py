"""`make observe` as a user runs it, next to `make up`: a real Prometheus knows about a consumer that is suspended."""

import json
import os
import shutil
import signal
import socket
import urllib.parse
from pathlib import Path

import httpx2
import pytest

from embedded import ports
from embedded.observer import _call as call
from embedded.runner import get
from embedded.system import MONITOR, PROCESSES
from tests.embedded.copies import Run, copy, is_gone, running
from tests.embedded.test_up import READY, dev_env, free_ports, order_status, user
from tests.waiting import eventually

OBSERVED = "Ctrl-C stops both."

needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(tmp_path_factory.mktemp("observe"))


@pytest.fixture(scope="module")
def up(clone: Path):
    with running(clone, "up", free_ports()) as run:
        run.wait_for(READY, within=180)
        yield run


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    return dict(zip((MONITOR.port_variable, "PROMETHEUS_PORT"), map(str, ports.free(2)), strict=True))


@pytest.fixture(scope="module")
def run(up: Run, variables):
    with running(up.clone, "observe", variables) as run:
        run.wait_for(OBSERVED, within=180)
        yield run


def ask(variables: dict[str, str], query: str) -> list[tuple[dict[str, str], float]]:
    """The result of an instant query, from Prometheus' HTTP API."""
    status, body = get(int(variables["PROMETHEUS_PORT"]), f"/api/v1/query?query={urllib.parse.quote(query)}")
    assert status == 200, body
    return [(one["metric"], float(one["value"][1])) for one in json.loads(body)["data"]["result"]]


def number(variables: dict[str, str], query: str) -> float | None:
    """The value of a query that has one; None if it has no result."""
    found = ask(variables, query)
    assert len(found) < 2, found
    return found[0][1] if found else None


@needs_prometheus
@pytest.mark.acceptance
class TestObserve:
    LAG = 'sum(kafka_consumergroup_lag{consumergroup="orders", topic="user.created"})'
    MEMBERS = 'kafka_consumergroup_members{consumergroup="orders"}'

    def test_each_process_is_scraped_with_its_labels(self, run: Run, variables) -> None:
        def scraped() -> set[tuple[str, str, str]]:
            return {
                (metric["job"], metric["service"], metric["process"])
                for metric, value in ask(variables, "up")
                if value == 1
            }

        kinds = {
            process.name: process.name.partition("-")[2] or ("gateway" if process.name == "gateway" else "web")
            for process in PROCESSES
        }
        expected = {("services", process.service, kinds[process.name]) for process in PROCESSES}
        eventually(lambda: scraped() == expected | {("services", "system", "monitor")}, within=120)

    def test_it_prints_addresses_that_respond(self, run: Run) -> None:
        addresses = [word for word in run.output.split() if word.startswith("http://")]
        assert len(addresses) == 2
        with httpx2.Client(trust_env=False, follow_redirects=True) as client:
            assert {client.get(address).status_code for address in addresses} == {200}

    def test_the_lag_of_a_suspended_consumer_is_known(self, run: Run, up: Run, variables) -> None:
        url = dev_env(up.clone)["GATEWAY_URL"]
        first = user(url)
        eventually(lambda: order_status(url, first), within=120)
        eventually(lambda: number(variables, self.LAG) == 0, within=120)
        eventually(lambda: number(variables, self.MEMBERS) == 1, within=120)
        consumer = next(one for one in consumers(up) if "--settings=settings.orders" in one.cmdline())
        consumer.suspend()
        try:
            for _ in range(5):
                user(url)
            eventually(lambda: number(variables, self.LAG) == 5, within=120)
            eventually(lambda: number(variables, self.MEMBERS) == 0, within=120)
        finally:
            consumer.resume()
        eventually(lambda: number(variables, self.LAG) == 0, within=120)
        eventually(lambda: number(variables, self.MEMBERS) == 1, within=120)

    def test_the_rules_are_loaded(self, run: Run, variables) -> None:
        status, body = get(int(variables["PROMETHEUS_PORT"]), "/api/v1/rules")
        assert status == 200
        names = {rule["name"] for group in json.loads(body)["data"]["groups"] for rule in group["rules"]}
        assert {"ServiceDown", "ConsumerLag"} <= names

    def test_ctrl_c_ends_both_and_leaves_the_system_running(self, run: Run, up: Run) -> None:
        family = run.family()
        assert len(family) == 2
        run.interrupt()

        assert run.ended() == 0
        assert eventually(lambda: all(is_gone(process) for process in family))
        assert call("GET", f"{dev_env(up.clone)['GATEWAY_URL']}/health/ready", None, {}).status == 200
        assert (up.clone / "var" / "prometheus" / "data").is_dir()


def consumers(up: Run) -> list:
    return [process for process in up.family() if "consume" in process.cmdline()]


@needs_prometheus
@pytest.mark.acceptance
def test_a_taken_port_is_named_with_its_variable(up: Run, variables) -> None:
    taken = int(variables["PROMETHEUS_PORT"])
    with socket.create_server((ports.HOST, taken)), running(up.clone, "observe", variables) as run:
        assert run.ended() == 1
        assert f"port {taken}, required for Prometheus, is in use" in run.output
        assert "make observe" in run.output


@needs_prometheus
@pytest.mark.acceptance
def test_it_ends_with_a_reason_if_the_monitor_dies(up: Run, variables) -> None:
    with running(up.clone, "observe", variables) as run:
        run.wait_for(OBSERVED, within=180)
        monitor = run.one_of("manage.py", "monitor")
        os.kill(monitor.pid, signal.SIGKILL)
        assert run.ended() == 1
        assert "the monitor was killed by SIGKILL" in run.output


@needs_prometheus
def test_without_a_running_system_it_says_what_to_do(tmp_path) -> None:
    with running(copy(tmp_path), "observe") as run:
        assert run.ended() == 1
        assert "`make up` is not running in" in run.output


def test_without_prometheus_it_says_how_to_get_it(tmp_path) -> None:
    with running(copy(tmp_path), "observe", {"PATH": "/nowhere"}) as run:
        assert run.ended() == 1
        assert "apt-get install" in run.output
        assert not (run.clone / "var").exists()
