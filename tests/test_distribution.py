"""How the files are distributed to the workers of xdist, in a real run of a small suite."""

import os
import subprocess
import sys

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


def distributed(folder, workers: int) -> dict[str, list[str]]:
    """The files that each worker has run, in order."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name in FILES:
        path = folder / "tests" / name
        path.parent.mkdir(parents=True)
        path.write_text(RECORD)
    record = folder / "record"
    record.mkdir()
    options = ("-p", "no:django", "-p", "no:cacheprovider", "--import-mode=importlib", "--no-loadscope-reorder")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.distribution", "-n", str(workers), "--dist", "loadfile", *options],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "RECORD": str(record)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tests = folder / "tests"
    return {
        path.name: [line.removeprefix(f"{tests}/") for line in path.read_text().splitlines()]
        for path in record.iterdir()
    }


def test_one_worker_runs_them_from_the_front(tmp_path):
    assert distributed(tmp_path, 1) == {"gw0": [FILES[2], FILES[1], FILES[3], FILES[0]]}


def test_the_second_of_two_begins_at_the_end(tmp_path):
    ran = distributed(tmp_path, 2)
    assert (ran["gw0"][0], ran["gw1"][0]) == (FILES[2], FILES[0])
    assert sorted(ran["gw0"] + ran["gw1"]) == sorted(FILES)


@pytest.mark.parametrize("prefix", [*distribution.FIRST, *distribution.LAST])
def test_what_it_names_exists(prefix):
    assert (ROOT / "tests" / prefix).exists()
