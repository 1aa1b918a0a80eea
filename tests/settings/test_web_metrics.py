"""The metrics of web processes under gunicorn: one or several behind one port, with nothing to set but their number."""

import contextlib
import gzip
import http.client
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from embedded import ports
from embedded.signals import descendants
from tests.serving import DATABASES, ROOT, database, gunicorn
from tests.waiting import eventually

LIST = {"http_request_method": "GET", "http_route": "/users", "http_response_status_code": "200"}
REQUESTS = "http_server_request_duration_seconds"
NOTHING = "00000000-0000-4000-8000-000000000000"


def fetch(port, path, headers=None, method="GET"):
    """Status, headers and body of a request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class Scrape:
    """The samples of a scrape."""

    def __init__(self, port):
        self.text = fetch(port, "/metrics")[2].decode()
        self.samples = [sample for family in parse(self.text) for sample in family.samples]
        self.names = {sample.name for sample in self.samples}

    def value(self, name, **labels):
        """The sum of the samples of this name with these labels."""
        return sum(one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items())

    def pids(self, name):
        return {int(one.labels["pid"]) for one in self.samples if one.name == name}


class Web:
    """Users under gunicorn, with a port for health and metrics."""

    def __init__(self, stack, environment, processes):
        [self.health] = ports.free(1)
        self.environment = environment
        own = {"WEB_CONCURRENCY": str(processes), "WEB_HEALTH_PORT": str(self.health), "WEB_THREADS": "4"}
        served = stack.enter_context(gunicorn("users", {**environment, **own}))
        self.port = urlsplit(served.url).port
        self.main = served.child.pid
        eventually(lambda: len(self.processes) == processes, what="all web processes")

    @property
    def processes(self):
        return set(descendants(self.main))

    def scrape(self):
        return Scrape(self.health)

    def counted(self):
        return self.scrape().value(f"{REQUESTS}_count", **LIST)

    def ask(self, times):
        assert {fetch(self.port, "/users")[0] for _ in range(times)} <= {200}

    @property
    def folders(self):
        """The folders of metrics that its main process holds."""
        links = [Path(os.readlink(path)) for path in Path(f"/proc/{self.main}/fd").iterdir()]
        return [link for link in links if link.name.startswith("web-metrics-") and link.is_dir()]


@pytest.fixture(scope="module")
def environment():
    with database("users") as variables:
        yield variables


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def web(request, environment):
    with ExitStack() as stack:
        yield Web(stack, environment, request.param)


class TestAnyNumberOfProcesses:
    def test_requests_are_counted_exactly(self, web):
        before = web.counted()
        with ThreadPoolExecutor(8) as pool:
            assert [pool.submit(fetch, web.port, "/users") for _ in range(200)][-1].result()[0] == 200
        assert web.counted() - before == 200

    def test_routes_methods_and_statuses_are_known_values(self, web):
        for number in range(30):
            fetch(web.port, f"/invented/{number}", method="INVENT" + chr(ord("A") + number % 26))
        fetch(web.port, f"/users/{NOTHING}")
        scrape = web.scrape()
        routes = {one.labels["http_route"] for one in scrape.samples if one.name == f"{REQUESTS}_count"}
        assert routes == {"", "/users", "/users/<str:id>"}
        assert scrape.value(f"{REQUESTS}_count", http_request_method="GET", http_response_status_code="404") == 1
        assert {one.labels["http_request_method"] for one in scrape.samples if one.name == f"{REQUESTS}_count"} <= {
            "GET", "POST", "PUT", "PATCH", "DELETE", "_OTHER",
        }  # fmt: skip

    def test_server_errors_exist_from_the_start(self, web):
        errors = {
            (one.labels["http_request_method"], one.labels["http_route"]): one.value
            for one in web.scrape().samples
            if one.name == f"{REQUESTS}_count" and one.labels["http_response_status_code"] == "503"
        }
        assert errors == {
            **{(method, "/users"): 0 for method in ("GET", "POST")},
            **{(method, "/users/<str:id>"): 0 for method in ("GET", "PUT", "PATCH", "DELETE")},
        }

    def test_probes_and_scrapes_are_not_counted(self, web):
        web.ask(1)
        before = web.scrape().value(f"{REQUESTS}_count")
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert fetch(web.port, path)[0] == 200
        assert web.scrape().value(f"{REQUESTS}_count") == before

    def test_only_metrics_of_web_processes_are_exported(self, web):
        names = web.scrape().names
        assert "outbox_written_total" in names
        assert "http_server_queue_seconds_count" in names
        assert not {name for name in names if name.startswith(("events_", "outbox_relay", "outbox_pending", "purged_"))}
        assert "service_up" not in names

    def test_threads_requests_and_connections_while_a_table_is_locked(self, web):
        threads = 4 * len(web.processes)
        eventually(lambda: web.scrape().value("http_server_threads", state="idle") == threads)
        with ExitStack() as stack:
            holder = stack.enter_context(psycopg.connect(web.environment[DATABASES["users"]]))
            holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            pool = stack.enter_context(ThreadPoolExecutor(2))
            asked = [pool.submit(fetch, web.port, "/users") for _ in range(2)]

            def waiting():
                scrape = web.scrape()
                return (
                    scrape.value("http_server_threads", state="busy") == 2
                    and scrape.value("http_server_threads", state="idle") == threads - 2
                    and scrape.value("http_server_active_requests") == 2
                    and scrape.value("db_client_connection_count", state="used") == 2
                )

            eventually(waiting, what="two busy threads")
            holder.rollback()
            assert {answer.result()[0] for answer in asked} == {200}
        eventually(lambda: web.scrape().value("http_server_active_requests") == 0)
        scrape = eventually(
            lambda: (one := web.scrape()).value("db_client_connection_count", state="used") == 0 and one
        )
        assert 2 <= scrape.value("db_client_connection_count", state="idle") <= scrape.value("db_client_connection_max")
        assert scrape.value("db_client_connection_create_time_seconds_count") >= 2
        assert scrape.value("db_client_connection_errors_total") == 0

    def test_the_queue_is_of_requests_alone(self, web):
        before = web.scrape().value("http_server_queue_seconds_count")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)) as connection:
            for _ in range(3):
                connection.request("GET", "/users")
                connection.getresponse().read()
        assert web.scrape().value("http_server_queue_seconds_count") - before == 3

    def test_each_process_shows_its_memory_and_files(self, web):
        scrape = eventually(
            lambda: len((one := web.scrape()).text.split("\nprocess_open_fds")) == len(web.processes) + 1 and one
        )
        names = {
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_start_time_seconds",
        }
        assert names <= scrape.names
        if len(web.processes) > 1:
            for name in names:
                assert scrape.pids(name) == web.processes

    def test_versions(self, web):
        python = ".".join(map(str, sys.version_info[:3]))
        assert web.scrape().value("build_info", version="unknown", python=python) == 1
        assert "python_info" in web.scrape().names

    def test_every_name_is_scraped_once_and_in_both_formats(self, web):
        families = [family.name for family in parse(web.scrape().text)]
        assert len(families) == len(set(families))
        status, headers, body = fetch(web.health, "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        assert status == 200
        assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert REQUESTS in {family.name for family in parse_openmetrics(body.decode())}

    def test_the_web_port_serves_the_same(self, web):
        headers = {"Accept-Encoding": "gzip"}
        for port in (web.port, web.health):
            status, answered, body = fetch(port, "/metrics", headers)
            assert (status, answered["Content-Encoding"]) == (200, "gzip")
            assert f"\n{REQUESTS}_count{{" in gzip.decompress(body).decode()


@pytest.fixture
def two(environment):
    with ExitStack() as stack:
        yield Web(stack, environment, 2)


def test_counters_survive_killed_processes_and_their_files_do_not(two):
    two.ask(100)
    for killed in sorted(two.processes):
        os.kill(killed, signal.SIGKILL)
        eventually(lambda killed=killed: killed not in two.processes and len(two.processes) == 2, what="a replacement")
        two.ask(50)
    [folder] = two.folders
    eventually(lambda: pids_in(folder) == two.processes, what="the files of the new processes alone")
    assert two.counted() == 200 + 1  # and the request that waited for the start
    scrape = two.scrape()
    assert scrape.pids("process_open_fds") == two.processes
    assert scrape.value("http_server_threads") == 8


def test_counters_survive_a_reload(two):
    two.ask(20)
    old = two.processes
    os.kill(two.main, signal.SIGHUP)
    eventually(lambda: not old & two.processes and len(two.processes) == 2, what="a reload")
    two.ask(20)
    assert two.counted() == 41
    assert len(two.folders) == 1


def test_a_scrape_during_many_deaths_never_goes_back(two):
    """While processes are killed, counters do not decrease, and no scrape fails."""
    counted = two.counted()
    for _ in range(4):
        os.kill(min(two.processes), signal.SIGKILL)
        for _ in range(10):
            with contextlib.suppress(OSError, http.client.HTTPException):  # the process that is killed
                now = two.counted()
                assert now >= counted
                counted = now
        eventually(lambda: len(two.processes) == 2)
    two.ask(5)
    assert two.counted() == counted + 5


def pids_in(folder):
    return {
        int(number) for name in os.listdir(folder) if (number := re.sub(r".*_(\d+)\.db", r"\1", name)).isdigit()
    } - {0}


def test_the_folder_is_private_and_removed_at_exit(environment):
    with ExitStack() as stack:
        web = Web(stack, environment, 2)
        [folder] = web.folders
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent == Path("/dev/shm")
    assert not folder.exists()


def test_a_folder_that_was_left_behind_is_removed_by_the_next_start(environment):
    with ExitStack() as stack:
        web = Web(stack, environment, 2)
        [folder] = web.folders
        processes = web.processes
        os.kill(web.main, signal.SIGKILL)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), what="no process")
    with ExitStack() as stack:
        Web(stack, environment, 2)  # or a web process of another test, which starts at the same time
        assert not folder.exists()


PREPARE = """
import os, sys, tempfile
from settings import metrics_folder
metrics_folder.MEMORY, tempfile.tempdir, processes = sys.argv[1:]
metrics_folder.prepare(int(processes))
print(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
"""

READ_ONLY = "/proc"
"""No file can be created here, not even by root."""


def prepare(memory, temporary, processes, **environment):
    return subprocess.run(
        [sys.executable, "-c", PREPARE, os.fspath(memory), os.fspath(temporary), str(processes)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_shared_memory_it_is_in_tmpdir(tmp_path):
    for memory in ("/nonexistent", READ_ONLY):
        done = prepare(memory, tmp_path, 2)
        assert Path(done.stdout.strip()).parent == tmp_path, done.stderr
        assert not list(tmp_path.iterdir())  # removed at exit


def test_without_any_writable_place_it_does_not_start():
    done = prepare(READ_ONLY, READ_ONLY, 2)
    assert done.returncode == 1
    assert "writable folder" in done.stderr


def test_one_process_needs_none_and_ignores_an_inherited_one(tmp_path):
    done = prepare("/dev/shm", tmp_path, 1, PROMETHEUS_MULTIPROC_DIR=os.fspath(tmp_path))
    assert done.stdout == "None\n", done.stderr


def test_the_number_of_processes_is_set_in_one_way():
    argv = [
        sys.executable,
        "-m",
        "gunicorn",
        "tests.settings.impatient:application",
        "-c",
        "settings/gunicorn.py",
        "-w",
        "2",
    ]
    [port] = ports.free(1)
    done = subprocess.run(
        [*argv, "-b", f"127.0.0.1:{port}"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "WEB_CONCURRENCY" in done.stderr
