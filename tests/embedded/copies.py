"""Runs `python -m embedded …` in a copy of this repository whose path contains a space."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from embedded.system import ROOT
from tests.waiting import eventually

EXCLUDED = (".git", ".venv", "var", "node_modules", ".mypy_cache", ".ruff_cache", ".hypothesis")


def copy(folder: Path) -> Path:
    """Copy the repository, with a link to the virtual environment of these tests. The compiled modules are copied as well."""
    target = folder / "a clone"
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*EXCLUDED), symlinks=True)
    (target / ".venv").symlink_to(ROOT / ".venv")
    return target


class Run:
    """A running `python -m embedded COMMAND`, with its output. The command may have options."""

    def __init__(self, clone: Path, command: str, variables: Mapping[str, str] | None = None) -> None:
        self.clone = clone
        self.process = subprocess.Popen(
            [".venv/bin/python", "-m", "embedded", *command.split()],
            cwd=clone,
            env={**os.environ, "PYTHONPATH": "platform", **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def wait_for(self, text: str, within: float = 120) -> None:
        """Wait until this text is in its output."""

        def found_or_ended() -> bool:
            return text in self.output or not self._reader.is_alive()

        eventually(found_or_ended, within=within, what=f"{text!r}")
        assert text in self.output, f"it ended without {text!r}:\n{self.output}"

    def interrupt(self) -> None:
        """Press Ctrl-C: the whole process group gets the signal, as from a terminal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, within: float = 60) -> int:
        """Wait for its exit, and return its status."""
        status = self.process.wait(within)
        self._reader.join(5)
        return status

    def family(self) -> list[psutil.Process]:
        """All its running descendants."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def one_of(self, *words: str) -> psutil.Process:
        """The program that it has started whose command line contains these words; not a process that this one has started."""
        for one in self.family():
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(one.pid) == one.pid and all(word in " ".join(one.cmdline()) for word in words):
                    return one
        raise AssertionError(f"no program has {words} in its command line")


@contextmanager
def running(clone: Path, command: str, variables: Mapping[str, str] | None = None) -> Iterator[Run]:
    """Run a command within the block, and stop it at the end."""
    run = Run(clone, command, variables)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.interrupt()
            try:
                run.ended()
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.process.wait()


def is_gone(process: psutil.Process) -> bool:
    """Whether it has exited."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
