"""`make up` as a user runs it, with other ports."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import psycopg
import pytest

from embedded import ports, up
from embedded.console import CONSOLE
from embedded.errors import EmbeddedError, PortTaken
from embedded.observer import _call as call
from embedded.system import PROCESSES, SERVICE_NAMES
from services import WITH_DATABASE
from tests.embedded.copies import Run, copy, is_gone, running
from tests.waiting import eventually

READY = "Ctrl-C stops everything."


def free_ports() -> dict[str, str]:
    names = [*(process.port_variable for process in (*PROCESSES, CONSOLE)), "POSTGRES_PORT", "KAFKA_PORT"]
    names += [process.health_variable for process in PROCESSES if process.health_variable]
    return dict(zip(names, map(str, ports.free(len(names))), strict=True))


def dev_env(clone: Path) -> dict[str, str]:
    """What a shell has after sourcing the file."""
    script = "set -a; . var/dev.env; env -0"
    result = subprocess.run(["sh", "-c", script], cwd=clone, capture_output=True, text=True, check=True, env={})
    return dict(line.split("=", 1) for line in result.stdout.split("\0") if line)


def user(url: str) -> str:
    """Make one; a service that is just being started again may need another try."""

    def made() -> str:
        answer = call("POST", f"{url}/api/users", {"email": f"{time.time_ns()}@example.org", "name": "Ada"}, {})
        assert answer.status == 201, answer
        return str(answer.body["id"])

    return eventually(made, every=0.5)


def order_status(url: str, user_id: str) -> str | None:
    """The status of the user's order; None without one, and while the service or its database is being started again."""
    answer = call("GET", f"{url}/api/orders?userId={user_id}", None, {})
    orders = answer.body["results"] if answer.status == 200 else []
    return orders[0]["status"] if orders else None


def freeze(console_url: str, name: str) -> None:
    """Freeze a target of the console's page Break it for a minute."""
    address, _, token = console_url.partition("?token=")
    form = f"target={name}&seconds=60".encode()
    request = urllib.request.Request(f"{address}break/freeze", form, {"Authorization": f"Bearer {token}"})
    urllib.request.urlopen(request, timeout=60).close()


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    return {**free_ports(), "PAYMENT_SUCCESS_RATE": "1"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(tmp_path_factory.mktemp("up"))


@pytest.fixture(scope="module")
def run(clone: Path, variables):
    with running(clone, "up", variables) as run:
        run.wait_for(READY, within=180)
        yield run


@pytest.mark.acceptance
class TestUp:
    def test_dev_env_can_be_sourced_and_says_where_everything_is(self, run: Run, variables) -> None:
        told = dev_env(run.clone)

        assert told["GATEWAY_URL"] == f"http://127.0.0.1:{variables['GATEWAY_PORT']}"
        assert {"USERS_URL", "ORDERS_URL", "PAYMENTS_URL", "KAFKA_BOOTSTRAP_SERVERS"} <= told.keys()
        for name in (service.database_variable for service in WITH_DATABASE):
            with psycopg.connect(told[name]) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_prometheus_finds_the_ports_that_answer_while_all_threads_are_busy(self, run: Run, variables) -> None:
        groups = json.loads((run.clone / "var" / "targets.json").read_text())
        found = {int(target.rpartition(":")[2]) for group in groups for target in group["targets"]}

        assert found == {int(variables[one.health_variable or one.port_variable]) for one in PROCESSES}

    def test_with_it_any_command_of_a_service_runs(self, run: Run) -> None:
        for service in SERVICE_NAMES:
            command = [".venv/bin/python", "manage.py", "check", f"--settings=settings.{service}"]
            done = subprocess.run(
                command, cwd=run.clone, env=dev_env(run.clone), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr

    def test_web_processes_serve_metrics_on_a_port_of_their_own(self, run: Run, variables) -> None:
        for service in ("users", "orders", "payments"):
            url = re.search(rf"Metrics of {service} +(\S+)", run.output)[1]
            assert f":{variables[f'{service.upper()}_PORT']}/" not in url
            threads = 8 if service in {one.name for one in WITH_DATABASE} else 4

            def all_are_idle(url: str = url, threads: int = threads) -> bool:
                with urllib.request.urlopen(url, timeout=30) as response:
                    assert f'http_server_threads{{state="idle"}} {threads}.0' in response.read().decode()
                return True

            eventually(all_are_idle)

    def test_the_console_shows_a_request_and_the_state_of_each_process(self, run: Run, variables) -> None:
        told = dev_env(run.clone)
        assert told["CONSOLE_URL"] in run.output
        console, token = told["CONSOLE_URL"].split("/?token=")
        assert console == f"http://127.0.0.1:{variables['CONSOLE_PORT']}"
        user(told["GATEWAY_URL"])

        def page() -> str:
            request = urllib.request.Request(f"{console}/stories", headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read().decode()

        assert eventually(lambda: "POST /api/users" in page() and "payments" in page())
        assert "cannot be reached" not in page()

    def test_secrets_are_for_the_owner_alone_and_in_no_file_of_the_repository(self, run: Run) -> None:
        for name in ("secrets.json", "dev.env"):
            assert stat.S_IMODE((run.clone / "var" / name).stat().st_mode) == 0o600

    def test_the_admin_login_that_it_prints_is_right_for_both(self, run: Run) -> None:
        name, password = re.search(r"Admin login +(\S+) +(\S+)", run.output).groups()
        for service in (one.name for one in WITH_DATABASE):
            code = f"from django.contrib.auth import authenticate as a; print(bool(a(username={name!r}, password={password!r})))"
            command = [".venv/bin/python", "manage.py", "shell", "-v0", f"--settings=settings.{service}", "-c", code]
            done = subprocess.run(
                command, cwd=run.clone, env=dev_env(run.clone), capture_output=True, text=True, check=False
            )
            assert done.stdout.strip() == "True", done.stderr

    def test_each_line_of_the_stream_has_its_process(self, run: Run) -> None:
        names = {line.split("│")[0].strip() for line in run.output.splitlines() if "│" in line}

        assert {"gateway", "users-relay", "orders-consume", "postgres", "kafka"} <= names

    def test_a_second_run_in_the_same_folder_is_rejected(self, run: Run) -> None:
        with running(run.clone, "up") as second:
            assert second.ended() == 1
            assert "is already running" in second.output

    def test_exited_processes_are_restarted(self, run: Run) -> None:
        url = dev_env(run.clone)["GATEWAY_URL"]
        killed = [run.one_of("manage.py", "relay"), run.one_of("manage.py", "consume"), run.one_of("users.wsgi")]
        killed += [run.one_of("bin/postgres"), run.one_of("manage.py", "console")]
        for process in killed:
            os.kill(process.pid, signal.SIGKILL)

        made = user(url)

        assert eventually(lambda: order_status(url, made) == "paid", within=60)
        assert eventually(lambda: run.output.count("restarting in") >= len(killed))

    def test_ctrl_c_ends_it_and_the_next_start_has_its_data(self, run: Run, clone: Path, variables) -> None:
        url = dev_env(clone)["GATEWAY_URL"]
        kept = user(url)
        eventually(lambda: order_status(url, kept) == "paid")
        secrets = json.loads((clone / "var" / "secrets.json").read_text())
        family = run.family()
        run.interrupt()

        assert run.ended() == 0
        assert not (clone / "var" / "dev.env").exists()
        assert eventually(lambda: all(is_gone(process) for process in family), within=60)
        with running(clone, "up", variables) as again:
            again.wait_for(READY, within=180)
            assert order_status(url, kept) == "paid"
            assert json.loads((clone / "var" / "secrets.json").read_text()) == secrets


class TestPorts:
    def test_the_default_applies_without_a_variable(self, monkeypatch) -> None:
        monkeypatch.delenv("GATEWAY_PORT", raising=False)
        (port,) = ports.free(1)

        assert up.port_of("GATEWAY_PORT", port) == port

    @pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "tcp://10.0.0.1:80"])
    def test_an_invalid_port_is_rejected(self, monkeypatch, text: str) -> None:
        monkeypatch.setenv("KAFKA_PORT", text)

        with pytest.raises(EmbeddedError, match="KAFKA_PORT must be a port number"):
            up.port_of("KAFKA_PORT", 9092)

    def test_a_taken_port_is_named_with_its_variable_and_nothing_starts(self, tmp_path) -> None:
        variables = free_ports()
        with (
            socket.create_server((ports.HOST, int(variables["ORDERS_PORT"]))),
            running(copy(tmp_path), "up", variables) as run,
        ):
            assert run.ended() == 1
            assert re.search(
                rf"(?s)port {variables['ORDERS_PORT']}, required for orders, is in use.*ORDERS_PORT=", run.output
            )
            assert not (run.clone / "var" / "postgres").exists()

    def test_a_port_used_twice_is_rejected(self, monkeypatch, tmp_path) -> None:
        for name, value in free_ports().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("USERS_PORT", os.environ["ORDERS_PORT"])

        with pytest.raises(EmbeddedError, match="required for orders, is also required for another purpose"):
            up._local_system({}, lambda name, line: None, with_console=True)


def test_a_taken_port_is_an_embedded_error() -> None:
    assert issubclass(PortTaken, EmbeddedError)


@pytest.mark.acceptance
@pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux only")
def test_what_is_frozen_ends_with_a_killed_run_and_the_next_one_starts(tmp_path: Path) -> None:
    clone, variables = copy(tmp_path), free_ports()
    with running(clone, "up", variables) as killed:
        killed.wait_for(READY, within=180)
        frozen = [killed.one_of("bin/postgres"), killed.one_of("orders.wsgi")]
        for name in ("postgres", "orders"):
            freeze(dev_env(clone)["CONSOLE_URL"], name)
        eventually(lambda: {process.status() for process in frozen} == {psutil.STATUS_STOPPED})
        family = killed.family()
        killed.process.kill()
        assert eventually(lambda: all(is_gone(process) for process in family), within=60)
    with running(clone, "up", variables) as again:
        again.wait_for(READY, within=180)
