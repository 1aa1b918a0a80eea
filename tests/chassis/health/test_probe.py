"""Probing all parts concurrently: states, statuses, deadlines, and what is never revealed."""

import dataclasses
import json
import threading
import time

import pytest
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable, ServiceWarning
from structlog.testing import capture_logs

from chassis.health import probe, registry
from chassis.health.probe import Finding
from chassis.health.registry import Part


@dataclasses.dataclass
class Fine(HealthCheck):
    def run(self):
        self.ran = True


@dataclasses.dataclass
class FineAsynchronous(HealthCheck):
    async def run(self):
        self.ran = True


@dataclasses.dataclass
class Raises(HealthCheck):
    error: Exception = dataclasses.field(repr=False)

    def run(self):
        raise self.error


class Hangs(HealthCheck):
    def __init__(self):
        self.runs = 0
        self.release = threading.Event()

    def run(self):
        self.runs += 1
        self.release.wait(120)


@pytest.fixture
def hanging():
    check = Hangs()
    yield check
    check.release.set()


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(registry, "_declared", None)
    monkeypatch.setattr(probe, "_told", {})
    monkeypatch.setattr(probe, "_runs", {})


DOWN = Raises(ServiceUnavailable("does not answer"))
LIMPING = Raises(ServiceWarning("is slow"))


class TestReady:
    @pytest.mark.parametrize(
        ("parts", "status", "says"),
        [
            ([], 200, "ready"),
            ([Part("a", Fine()), Part("b", FineAsynchronous())], 200, "ready"),
            ([Part("a", Fine()), Part("b", DOWN)], 503, "unavailable"),
            ([Part("a", Fine()), Part("b", DOWN, required=False)], 200, "degraded"),
            ([Part("a", LIMPING)], 200, "degraded"),
            ([Part("a", LIMPING), Part("b", DOWN)], 503, "unavailable"),
        ],
    )
    def test_status_follows_from_the_parts(self, parts, status, says):
        registry.declare(parts)
        answer = probe.ready()
        assert (answer.status, answer.body["status"]) == (status, says)

    def test_names_each_part(self, service):
        registry.declare([Part("good", Fine()), Part("bad", DOWN), Part("slow", LIMPING, required=False)])
        assert probe.ready().body == {
            "status": "unavailable",
            "service": service,
            "parts": {
                "good": {"status": "up"},
                "bad": {"status": "down", "reason": "does not answer"},
                "slow": {"status": "degraded", "reason": "is slow"},
            },
        }

    def test_never_quotes_an_unexpected_exception(self):
        registry.declare([Part("a", Raises(RuntimeError("password=hunter2 at 10.0.0.1")))])
        answer = probe.ready()
        assert answer.status == 503
        assert answer.body["parts"] == {"a": {"status": "down", "reason": "cannot be checked"}}
        assert "hunter2" not in json.dumps(answer.body)


class TestDeadline:
    def test_a_hanging_check_times_out_and_the_others_are_reported(self, hanging):
        registry.declare([Part("hangs", hanging), Part("fine", Fine())])
        began = time.monotonic()
        answer = probe.ready()
        assert time.monotonic() - began < 60, "it hangs for much longer"
        assert answer.status == 503
        assert answer.body["parts"]["hangs"] == {"status": "down", "reason": "does not respond in time"}
        assert answer.body["parts"]["fine"] == {"status": "up"}

    def test_a_hanging_check_is_not_repeated_by_every_probe(self, hanging):
        part = Part("hangs", hanging)
        for _ in range(5):
            assert probe.examine([part], within=0.01)["hangs"].state == "down"
        assert hanging.runs == 1

    def test_a_finished_check_is_repeated(self, hanging):
        part = Part("hangs", hanging)
        probe.examine([part], within=0.01)
        hanging.release.set()
        assert probe.examine([part], within=60) == {"hangs": Finding("up")}
        probe.examine([part], within=60)
        assert hanging.runs >= 2

    def test_slow_checks_run_concurrently(self):
        all_of_them = threading.Barrier(5)

        class Slow(HealthCheck):
            def run(self):
                all_of_them.wait(60)

        findings = probe.examine([Part(f"p{n}", Slow()) for n in range(5)], within=60)
        assert {finding.state for finding in findings.values()} == {"up"}


class TestLive:
    def test_a_web_process_that_responds_is_live(self):
        registry.declare([Part("database", DOWN)])
        assert (probe.live().status, probe.live().body["status"]) == (200, "live")

    def test_a_worker_is_live_while_its_loop_runs(self):
        registry.declare([Part("loop", DOWN), Part("database", DOWN)])
        answer = probe.live()
        assert (answer.status, list(answer.body["parts"])) == (503, ["loop"])


def test_a_change_is_logged_once():
    part, well = Part("a", DOWN), Part("a", Fine())
    with capture_logs() as logs:
        for part_now in (well, part, part, part, well, well):
            probe.examine([part_now])
    assert [(line["part"], line["state"]) for line in logs] == [("a", "down"), ("a", "up")]
