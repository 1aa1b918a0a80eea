"""`make service` in a clone, with and without a database, and then the whole system with both services."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedded import up
from services.discovery import ROOT
from tests.embedded.copies import copy
from tests.engines import OWNER

pytestmark = pytest.mark.acceptance

OWN = {
    *("zstock/", "tests/zstock/", "settings/zstock.py", "docs/events/zstock.created.v1.json"),
    *("zaudits/", "tests/zaudits/", "settings/zaudits.py", "docs/events/zaudit.created.v1.json"),
}
GENERATED = (".dockerignore", "docker/", "deploy/", "docs/settings.md", "docs/metrics.md", "pyproject.toml")
PYTHON = ".venv/bin/python"


class Clone:
    """A repository in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = copy(folder)
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "as it was")

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program in it, with nothing of this test run in its environment."""
        environment = {**_plain(os.environ), **variables}
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=400, check=False
        )

    def git(self, *arguments: str) -> str:
        author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        return succeeded(self.run("git", *author, *arguments))

    def status(self) -> dict[str, str]:
        """What `git status` says, by path."""
        lines = self.git("status", "--porcelain").splitlines()
        return {line[3:].strip('"'): line[:2].strip() for line in lines}

    def service(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", "service", *(f"{name}={value}" for name, value in variables.items()))


def _plain(environment: Mapping[str, str]) -> dict[str, str]:
    ours = (
        OWNER,
        "ENVIRONMENT",
        "DJANGO_SETTINGS_MODULE",
        "KAFKA_BOOTSTRAP_SERVERS",
        "MAKEFLAGS",
        "MAKELEVEL",
        "NAME",
        "ON",
        "DATABASE",
    )
    return {
        name: value
        for name, value in environment.items()
        if name not in ours and not name.startswith("PYTEST_") and not name.endswith("_DATABASE_URL")
    }


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Clone:
    """A clone without a new service."""
    return Clone(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def clone(clean: Clone) -> Clone:
    """The same, with one service of each kind, written by two concurrent commands."""
    requested = ({"NAME": "zstock"}, {"NAME": "zaudits", "ON": "order.created", "DATABASE": "no"})
    earlier = clean.root / up.admin_marker("zstock").relative_to(ROOT)
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda variables: clean.service(**variables), requested)
        for variables, done in zip(requested, results, strict=True):
            assert f"{variables['NAME']} consumes order.created" in succeeded(done)
            assert ("database of an earlier service" in done.stdout) == (variables["NAME"] == "zstock")
    shutil.rmtree(clean.root / "var")
    return clean


@pytest.mark.parametrize(
    "variables",
    [{"NAME": "a'; b\""}, {"NAME": "zstock", "ON": "nothing.happened"}],  # all others: test_names.py
)
def test_an_invalid_request_prints_one_message_and_writes_nothing(clean, variables):
    before = clean.status()

    done = clean.service(**variables)

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("make")]) == 1
    assert clean.status() == before


def test_a_bad_declaration_is_one_message(clean):
    path = clean.root / "users" / "service.py"
    good = path.read_text()
    path.write_text(good.replace("port=8001", 'port="8001"'))

    started = (("manage.py", "check"), ("-m", "services"), ("-m", "scaffold"), ("-m", "embedded", "demo"))
    done = [clean.run(PYTHON, *arguments, PYTHONPATH="platform", NAME="zstock") for arguments in started]

    path.write_text(good)
    for one in done:
        assert one.returncode != 0
        assert "users/service.py: port must be int, not '8001'" in one.stderr
        assert len(one.stderr.splitlines()) == 1


def test_what_cannot_be_written_is_one_message(clean):
    (clean.root / "zstock").symlink_to("nothing")
    before = clean.status()

    done = clean.service(NAME="zstock")

    assert done.returncode != 0
    assert "zstock'; nothing was written" in done.stderr
    assert "Traceback" not in done.stderr
    assert clean.status() == before
    (clean.root / "zstock").unlink()


def test_only_its_own_files_and_generated_ones(clone):
    status = clone.status()

    assert {path for path, kind in status.items() if not path.startswith(GENERATED)} == OWN
    assert all(kind == "??" for path, kind in status.items() if path in OWN)


def test_the_generated_code_passes_every_check(clone):
    succeeded(clone.run(PYTHON, "-m", "ruff", "check"))
    succeeded(clone.run(PYTHON, "-m", "ruff", "format", "--check"))
    succeeded(clone.run(".venv/bin/lint-imports", PYTHONPATH="platform"))
    databases = {f"{name}_DATABASE_URL": "postgresql://x@127.0.0.1:1/x" for name in ("USERS", "ORDERS", "ZSTOCK")}
    anywhere = {"ENVIRONMENT": "development", **databases}
    succeeded(clone.run(PYTHON, "-m", "mypy", "zstock", "zaudits", **anywhere))
    check = ("-W", "ignore", "manage.py", "makemigrations", "--check", "--dry-run", "--settings=settings.zstock")
    succeeded(clone.run(PYTHON, *check, **anywhere))


def test_its_tests_and_the_contracts(clone):
    tests = ("tests/zstock", "tests/zaudits", "tests/contracts")
    said = succeeded(clone.run(PYTHON, "-m", "pytest", "-n", "0", "-q", *tests))

    assert "passed" in said


def test_a_story_through_the_system_with_both(clone):
    # The story starts engines of its own; what needs addresses before is told some at which nobody is.
    nowhere = {f"{name}_DATABASE_URL": "postgresql://x@127.0.0.1:1/x" for name in ("USERS", "ORDERS", "ZSTOCK")}
    own = {OWNER: "the story", "ENVIRONMENT": "development", **nowhere}
    said = succeeded(clone.run(PYTHON, "-m", "pytest", "-n", "0", "-q", "tests/scaffold/story.py", **own))

    assert "3 passed" in said


def test_deleting_it_leaves_the_tree_as_it_was(clone):
    """As docs/services.md says."""
    for path in (*OWN, *(f"deploy/kubernetes/{name}.yaml" for name in ("zstock", "zaudits"))):
        succeeded(clone.run("rm", "-r", path))
    succeeded(clone.run("make", "generate"))

    assert clone.status() == {}
