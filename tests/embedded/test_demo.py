"""`make demo` as a user runs it."""

import contextlib
import json
import os
import re
import signal
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from embedded import cache
from tests.embedded.copies import Run, copy, is_gone, running
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def whole(clone: Path) -> Run:
    """One demo, played to its end."""
    with running(clone, "demo") as run:
        run.ended(within=240)
    return run


def nothing_is_left(run: Run, family: list[psutil.Process], folders: set[Path]) -> bool:
    assert eventually(lambda: all(is_gone(process) for process in family), within=60)
    return not any(folder.exists() for folder in folders) and not (run.clone / "var").exists()


def throwaway_folders(family: list[psutil.Process]) -> set[Path]:
    """Where the engines of this run keep their data."""
    runs, folders = cache.home() / "runs", set()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            folders.add(Path(process.cwd()))
    return {runs / folder.relative_to(runs).parts[0] for folder in folders if folder.is_relative_to(runs)}


def test_it_succeeds(whole: Run) -> None:
    assert whole.process.returncode == 0, whole.output
    assert "All as promised." in whole.output


def test_it_shows_each_step_with_its_service_and_time(whole: Run) -> None:
    steps = re.findall(r"^ +(\d+) ms  (\w+) +(.*)$", whole.output, re.MULTILINE)

    assert [service for _, service, _ in steps] == ["gateway", "users", "orders", "payments", "orders"]
    assert [event for _, _, what in steps for event in re.findall(r"published ([\w.]+)", what)] == [
        "user.created",
        "order.created",
        "payment.completed",
    ]
    assert all(int(since) < 30_000 for since, _, _ in steps)


def test_all_steps_share_one_request_and_one_trace(whole: Run) -> None:
    ids = re.findall(r"request (\S+)  trace ([0-9a-f]{32})$", whole.output, re.MULTILINE)

    assert len(ids) == 5
    assert len(set(ids)) == 1


def test_the_order_was_settled_and_the_duplicate_had_no_effect(whole: Run) -> None:
    assert re.search(r"order +[0-9a-f-]{36}: (paid|failed), read back through the gateway", whole.output)
    assert "order.created was published 1 time, payment.completed 1 time" in whole.output
    assert "the user still has 1 order, unchanged" in whole.output


@pytest.mark.parametrize("moment", ["Starting the system", "topics created"])
def test_ctrl_c_at_any_moment_leaves_nothing(clone: Path, moment: str) -> None:
    with running(clone, "demo") as run:
        run.wait_for(moment)
        family = run.family()
        folders = throwaway_folders(family)
        run.interrupt()

        assert run.ended(within=60) == 130
        assert nothing_is_left(run, family, folders)


@pytest.mark.parametrize(
    ("words", "name", "moment"),
    [
        (("manage.py", "serve"), "gateway", "PostgreSQL is ready"),
        (("manage.py", "consume"), r"(orders|payments)-consume", "all 8 processes are ready"),
    ],
)
def test_a_process_that_exits_stops_it_and_is_named(clone: Path, words, name: str, moment: str) -> None:
    with running(clone, "demo") as run:
        run.wait_for(moment)
        family = run.family()
        folders = throwaway_folders(family)
        os.kill(run.one_of(*words).pid, signal.SIGKILL)

        assert run.ended(within=60) == 1
        assert re.search(rf"demo failed: {name} was killed by SIGKILL.*its last lines:\n  \| ", run.output), run.output
        assert folders
        assert nothing_is_left(run, family, folders)


def test_killing_it_kills_all_its_processes(clone: Path) -> None:
    with running(clone, "demo") as run:
        run.wait_for("all 8 processes are ready")
        family = run.family()
        run.process.kill()
        run.ended()

    assert len(family) > 10
    assert eventually(lambda: all(is_gone(process) for process in family), within=60)


def test_left_open_it_shows_its_story_in_the_console_until_ctrl_c(clone: Path) -> None:
    with running(clone, "demo --open") as run:
        run.wait_for("Ctrl-C stops everything", within=240)
        url, token = re.search(r"this story +(http\S+/stories/[0-9a-f]{32})\?token=(\S+)", run.output).groups()

        def story() -> dict[str, Any]:
            request = urllib.request.Request(f"{url}.json", headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)

        def has_all_topics() -> bool:
            # Their order is that in which the processes export their spans.
            assert sorted(story()["topics"]) == ["order.created", "payment.completed", "user.created"]
            return True

        eventually(has_all_topics)
        found = story()
        assert (found["name"], found["status"], found["state"]) == ("POST /api/users", 201, "ok")
        assert {one["process"] for one in found["span_list"]} == {
            *("gateway", "users", "users-relay", "orders-relay", "orders-consume", "payments-consume"),
        }
        assert {one["process"] for one in found["line_list"]} >= {
            "gateway",
            "users",
            "orders-consume",
            "payments-consume",
        }
        assert found["request_id"] in run.output

        # The console is not needed by anything.
        os.kill(run.one_of("manage.py", "console").pid, signal.SIGKILL)
        gateway = re.search(r"gateway +(http\S+)\n\n", run.output)[1]
        with urllib.request.urlopen(f"{gateway}/api/orders", timeout=60) as response:
            assert response.status == 200

        family = run.family()
        folders = throwaway_folders(family)
        run.interrupt()
        assert run.ended(within=60) == 0
        assert nothing_is_left(run, family, folders)


def test_an_unknown_option_is_rejected(clone: Path) -> None:
    with running(clone, "demo --close") as run:
        assert run.ended() == 2
        assert "demo [--open]" in run.output
