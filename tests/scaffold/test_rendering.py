"""The rendered templates are formatted like handwritten code, regardless of the length of names."""

import subprocess
import sys
from itertools import product

import pytest

from scaffold.plan import Plan
from scaffold.rendering import rendered
from services.discovery import ROOT

NAMES = ("ab", "zookeepings", "x123456789012345678901234567ys")
TOPICS = ("order.created", "user.created")
"""One with an id that is a UUID, one with an id that is text."""


@pytest.fixture(scope="module", params=product(NAMES, TOPICS, ("yes", "no")), ids="-".join)
def folder(request):
    """The files of one service."""
    name, topic, database = request.param
    with rendered(Plan.of({"NAME": name, "ON": topic, "DATABASE": database}, ROOT), ROOT) as folder:
        yield folder


def ruff(folder, *arguments: str) -> None:
    sources = ", ".join(f'"{path}"' for path in (ROOT, ROOT / "platform", folder))
    options = ("--config", str(ROOT / "pyproject.toml"), "--config", f"src = [{sources}]", "--no-cache")
    command = [sys.executable, "-m", "ruff", *arguments, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_passes_the_linter_and_the_formatter(folder):
    ruff(folder, "format", "--check", ".")
    ruff(folder, "check", ".", "--exclude", "tests", "--exclude", "migrations")
    # pyproject.toml makes these exceptions for its own tests/.
    ruff(folder, "check", "tests", "--extend-ignore", "D,E501,S,PLR0913,PLW0603,ARG,BLE")


def test_no_line_is_too_long_and_nothing_of_the_templates_is_left(folder):
    for path in folder.rglob("*"):
        assert "app_name" not in path.name
        if path.is_file():
            text = path.read_text()
            assert path.suffix == ".py"
            assert not any(mark in text for mark in ("{%", "{{", "{#", "app_name")), path
            assert max(map(len, text.splitlines()), default=0) <= 120, path
