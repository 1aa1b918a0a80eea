"""Polling real processes: a service, one that is not there, and one that is something else."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core.exceptions import ImproperlyConfigured

from console.failures import Away, NotFound
from console.sources import processes
from console.sources.processes import Processes, configured
from console.sources.staff import Refused, Staff
from embedded import ports
from services import SERVICES
from tests.serving import serving
from tests.waiting import eventually


@pytest.fixture(scope="module")
def users():
    with serving("users") as url:
        yield url


def described(url: str, name: str = "users") -> str:
    return json.dumps([{"name": name, "service": name, "kind": "web", "url": url}])


@contextmanager
def polling(text: str):
    polled = Processes(configured(text))
    ended = threading.Event()
    thread = threading.Thread(target=polled.run, args=[ended])
    thread.start()
    try:
        yield polled
    finally:
        ended.set()
        polled.stop()
        thread.join()


class TestProcesses:
    def test_health_and_while_watched_metrics(self, users):
        with polling(described(users)) as polled:
            polled.wait(0, 30)
            [first] = polled.snapshots
            assert first.status in {"ready", "degraded"}
            assert "database" in {part.name for part in first.parts}
            assert not first.metrics
            polled.watch()

            def rated():
                polled.watch()
                polled.wait(10**9, 0.2)
                snapshot = polled.snapshot("users")
                return snapshot if snapshot.previous else None

            watched = eventually(rated)
            assert watched.value("build_info") == 1
            assert watched.value("http_server_threads", state="idle") > 0
            assert watched.rate("http_server_request_duration_seconds_count") >= 0
            assert watched.since == first.since
            assert watched.rate("no_such_metric") == watched.value("no_such_metric") == 0

    def test_what_is_not_there_is_down_with_a_reason(self):
        with polling(described(f"http://127.0.0.1:{ports.free(1)[0]}")) as polled:
            polled.wait(0, 30)
            [snapshot] = polled.snapshots
            assert (snapshot.status, snapshot.reason) == ("down", "does not run: nothing listens on its port")

    def test_something_else_is_no_process_of_the_system(self, users):
        with polling(described(f"{users}/schema/")) as polled:
            polled.wait(0, 30)
            assert polled.snapshots[0].status in {"ready", "degraded"}  # only host and port of the address are used

    def test_without_a_setting_they_are_those_of_the_declarations(self):
        found = configured("")
        assert {one.service for one in found} == {service.name for service in SERVICES}
        assert ("orders-consume", "consume", "http://127.0.0.1:8022") in {
            (one.name, one.kind, one.url) for one in found
        }

    @pytest.mark.parametrize("text", ["{", "[{}]", "[1]", '{"name": "x"}', "null"])
    def test_an_invalid_setting_is_named(self, text):
        with pytest.raises(ImproperlyConfigured, match="CONSOLE_PROCESSES"):
            configured(text)

    def test_the_format_of_a_scrape(self):
        text = '# HELP a b\na_total{x="1",y="q\\"} 2"} 3.5\na_total{x="2",y=""} +Inf 17\npython_info{v="3"} 1\nnonsense\nb 1e-3\n'
        found = processes.parse(text)
        assert found == {
            "a_total": {(("x", "1"), ("y", 'q\\"} 2')): 3.5, (("x", "2"), ("y", "")): float("inf")},
            "b": {(): 0.001},
        }


class TestStaff:
    def test_a_service_that_does_not_run_is_away(self):
        staff = Staff(Processes(configured(described(f"http://127.0.0.1:{ports.free(1)[0]}"))), "", "ada")
        with pytest.raises(Away, match="users cannot be reached"):
            staff.get("users", "info")
        assert not staff.sources["users"].state.up
        assert staff.everywhere("info")[0] == {}
        assert "nothing listens" in staff.everywhere("info")[1]["users"]

    def test_an_error_of_the_service_has_its_detail(self, users):
        staff = Staff(Processes(configured(described(users))), "", "ada")
        with pytest.raises(Refused) as refused:
            staff.get("users", "no-such-endpoint")
        assert refused.value.status in {401, 403, 404}
        assert staff.sources["users"].state.up

    def test_an_unknown_service_is_not_found(self):
        with pytest.raises(NotFound):
            Staff(Processes(()), "", "ada").get("nobody", "info")

    def test_progress_that_cannot_begin_is_refused_or_away(self, users):
        with pytest.raises(Refused):
            next(Staff(Processes(configured(described(users))), "", "ada").stream("users", "no-such-endpoint", {}))
        away = described(f"http://127.0.0.1:{ports.free(1)[0]}")
        with pytest.raises(Away):
            next(Staff(Processes(configured(away)), "", "ada").stream("users", "x", {}))

    def test_progress_is_read_as_it_arrives_and_the_operator_is_named(self):
        asked: list[dict[str, str]] = []
        more = threading.Event()

        class Service(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(dict(self.headers))
                self.send_response(200)
                self.end_headers()
                for done in range(2):
                    self.wfile.write(b'{"done": %d}\n' % done)
                    more.wait(60)

        with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
            threading.Thread(target=server.serve_forever).start()
            staff = Staff(Processes(configured(described(f"http://127.0.0.1:{server.server_port}"))), "secret", "Ada Ł")
            progress = staff.stream("users", "dead-letters/redrive", {"ids": []})
            assert next(progress) == {"done": 0}
            more.set()
            assert list(progress) == [{"done": 1}]
            server.shutdown()
        assert asked[0]["Authorization"] == "Bearer secret"
        assert asked[0]["X-Operator"].encode("latin-1").decode() == "Ada Ł"
