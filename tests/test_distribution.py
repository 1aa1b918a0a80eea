"""How the files are distributed to the workers of xdist, in a real run of a small suite."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence

import pytest

from embedded.system import ROOT
from tests import distribution

FILES = ("chassis/staff/test_waits.py", "acceptance/test_story.py", "plans/test_plans.py", "users/test_api.py")
RECORD = """
import os, pathlib
def test():
    with pathlib.Path(os.environ["RECORD"], os.environ["PYTEST_XDIST_WORKER"]).open("a") as record:
        record.write(__file__ + chr(10))
"""


HANG = """
import threading
def test_before():
    pass
def test_hangs():
    threading.Event().wait()
def test_after():
    pass
"""


def run(folder, workers: int, files: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run a suite of these files in a folder, with an empty folder `record`."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "record").mkdir()
    for name in files:
        path = folder / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RECORD)
    alone = ("-p", "no:django", "-p", "no:cacheprovider", "--import-mode=importlib", "--no-loadscope-reorder")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.distribution", "-n", str(workers), "--dist", "loadfile", *alone, *options],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "RECORD": str(folder / "record")}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def distributed(folder, workers: int, files: Sequence[str] = FILES) -> dict[str, list[str]]:
    """The files that each worker has run, in order."""
    done = run(folder, workers, files)
    assert done.returncode == 0, done.stdout + done.stderr
    record = folder / "record"
    tests = folder / "tests"
    return {
        path.name: [line.removeprefix(f"{tests}/") for line in path.read_text().splitlines()]
        for path in record.iterdir()
    }


def test_one_worker_runs_them_from_the_front(tmp_path):
    assert distributed(tmp_path, 1) == {"gw0": [FILES[1], FILES[2], FILES[3], FILES[0]]}


def test_the_second_of_two_begins_at_the_end(tmp_path):
    ran = distributed(tmp_path, 2)
    assert (ran["gw0"][0], ran["gw1"][0]) == (FILES[1], FILES[0])
    assert sorted(ran["gw0"] + ran["gw1"]) == sorted(FILES)


def test_few_workers_start_the_system_of_the_acceptance_tests(tmp_path):
    sharing = [f"acceptance/test_shared_{number}.py" for number in range(12)]
    files = [*FILES, *sharing, *distribution.OWN_SYSTEMS]
    ran = distributed(tmp_path, 5, files)
    hosts = {worker for worker, files in ran.items() if not set(files).isdisjoint(sharing)}
    assert len(hosts) == distribution.HOSTS
    assert not any(map(distribution.takes_from_the_end, hosts))
    assert sorted(file for its in ran.values() for file in its) == sorted(files)


def test_without_its_hosts_another_worker_starts_it(tmp_path):
    crash = tmp_path / "tests" / "acceptance" / "test_a_crash.py"
    crash.parent.mkdir(parents=True)
    crash.write_text("import os\ndef test():\n    os.abort()\n")
    sharing = [f"acceptance/test_shared_{number}.py" for number in range(6)]
    done = run(tmp_path, 1, [*FILES, *sharing])
    assert f"1 failed, {len(FILES) + len(sharing)} passed" in done.stdout


def test_a_test_that_hangs_fails_alone(tmp_path):
    hanging = tmp_path / "tests" / "browser" / "test_hangs.py"
    hanging.parent.mkdir(parents=True)
    hanging.write_text(HANG)
    done = run(tmp_path, 2, FILES, "-o", "faulthandler_timeout=5", "-o", "faulthandler_exit_on_timeout=true")
    assert done.returncode == 1
    assert "test_hangs.py::test_hangs" in done.stdout
    assert f"1 failed, {len(FILES) + 2} passed" in done.stdout
    assert f'"{hanging}", line 6 in test_hangs' in done.stderr  # where it hung


def test_in_this_suite_a_test_that_hangs_ends():
    """A run of it without a limit would never end, and would not say which test hung."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["faulthandler_exit_on_timeout"] is True
    assert settings["faulthandler_timeout"] == 600


@pytest.mark.parametrize("prefix", [*distribution.FIRST, *distribution.LAST])
def test_what_it_names_exists(prefix):
    assert (ROOT / "tests" / prefix).exists()
