"""The tutorial in a copy of the repository: every command is run, and every change is applied."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from embedded import ports
from embedded.system import PROCESSES, ROOT
from tests.embedded.copies import copy
from tests.waiting import eventually

PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
READY = "Ctrl-C stops everything."
SHELL = ("PATH", "HOME", "USER", "LANG", "TMPDIR")
READ_ONLY = re.compile(r"^curl -s \"")


class Step(NamedTuple):
    """A block of the page: shell commands, a change, or what the commands before it show in the end."""

    kind: str
    text: str


def steps() -> list[Step]:
    """The blocks of the page, in their order."""
    return [Step(*match.groups()) for match in BLOCK.finditer(PAGE.read_text())]


class Reader:
    """Somebody who follows the tutorial in two shells: `make up` runs in one of them."""

    def __init__(self, clone: Path, variables: Mapping[str, str]) -> None:
        self.clone = clone
        # A shell of the reader's own: the tests' engines and settings are in ours.
        self._variables = {name: os.environ[name] for name in SHELL if name in os.environ} | dict(variables)
        self._second_shell = dict(self._variables)
        self._running = ExitStack()
        self._last = ""

    def follow(self, step: Step) -> None:
        """Do what a block says."""
        match step.kind:
            case "sh" if step.text.rstrip().endswith("make up"):
                self.start(step.text)
            case "sh":
                self._last = step.text
                self.shell(step.text)
            case "diff":
                self.apply(step.text)
            case "text":
                self.wait_for(step.text.strip())
            case _:
                raise AssertionError(f"a block of an unknown kind: {step.kind}")

    def shell(self, script: str) -> str:
        """Run commands in the second shell, which keeps its variables; all must succeed."""
        exported = self.clone / "var" / "exported"
        exported.parent.mkdir(exist_ok=True)
        done = subprocess.run(
            ["bash", "-euc", f"{script}\nenv -0 >var/exported"],
            cwd=self.clone,
            env=self._second_shell,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
        self._second_shell = dict(line.split("=", 1) for line in exported.read_text().split("\0") if line)
        return done.stdout

    def apply(self, diff: str) -> None:
        """Make a change as it stands on the page."""
        done = subprocess.run(
            ["git", "apply", "--recount", "--unidiff-zero", "-"],
            cwd=self.clone,
            input=diff,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}\n{diff}"

    def wait_for(self, text: str) -> None:
        """Repeat the last request until its answer holds the text: the event may be on its way."""
        request = self._last.strip().splitlines()[-1]
        assert READ_ONLY.match(request), "only what reads is repeated"
        eventually(lambda: text in self.shell(request), within=120, what=f"{text!r}")

    def start(self, command: str) -> None:
        """Press Ctrl-C where `make up` is already running; run it, and wait until it is ready."""
        self.stop()
        self._running.enter_context(self._up(command))

    def stop(self) -> None:
        """Press Ctrl-C."""
        self._running.close()

    @contextmanager
    def _up(self, command: str) -> Iterator[None]:
        log = self.clone / "up.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"],
                cwd=self.clone,
                env=self._variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            eventually(lambda: READY in log.read_text() or process.poll() is not None, within=300, what=READY)
            assert process.poll() is None, log.read_text()[-8000:]
            yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(120)


@pytest.fixture
def reader(tmp_path) -> Iterator[Reader]:
    clone = copy(tmp_path)
    shutil.rmtree(clone / "var", ignore_errors=True)
    for command in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "-"),
    ):
        subprocess.run(["git", *command], cwd=clone, check=True)
    # The addresses of the page are those of var/dev.env, so any ports will do; those of stock are free by its declaration.
    names = [*(process.port_variable for process in PROCESSES), "POSTGRES_PORT", "KAFKA_PORT"]
    names += [process.health_variable for process in PROCESSES if process.health_variable]
    names += ["STOCK_PORT", "STOCK_RELAY_PORT", "STOCK_CONSUME_PORT", "STOCK_HEALTH_PORT"]
    # Each worker of `make test` would create databases of its own, for the few tests that the page runs.
    reader = Reader(clone, {"WORKERS": "0", **dict(zip(names, map(str, ports.free(len(names))), strict=True))})
    try:
        yield reader
    finally:
        reader.stop()


@pytest.mark.acceptance
def test_the_tutorial_works(reader):
    for step in steps():
        reader.follow(step)


def test_it_has_commands_and_changes():
    kinds = [step.kind for step in steps()]
    assert kinds.count("sh") >= 8
    assert kinds.count("diff") >= 8
    assert kinds.count("text") == 2
