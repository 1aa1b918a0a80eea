"""A Python program that a fork server starts."""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

from embedded.processes import Child
from tests.forks import program


@cache
def _context() -> ForkServerContext:
    """The fork server of this process. It starts with the first fork, and ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.forks.libraries"])
    return context


class Forked(Child):
    """A `Child` that is a fork of a process which has loaded the libraries: it starts in half the time.

    Everything else is as in a process of its own: session, environment, import path, output, signals, exit status. Only its
    command line, in the list of processes, is that of the fork server. Start and wait for it in one thread.

    `argv` is `python [-P] SCRIPT ...` or `python -m MODULE ...`. Errors are in `error_log`, by default also in the log.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        name: str,
        cwd: Path,
        env: Mapping[str, str],
        error_log: Path | None = None,
        death_signal: int = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.log = log
        self.popen = _Process(  # type: ignore[assignment]
            list(map(str, argv)), cwd=str(cwd), env=dict(env), out=str(log), err=str(error_log or log), death_signal=death_signal
        )  # fmt: skip


class _Process:
    """What `Child` and its users need of `subprocess.Popen`."""

    def __init__(self, argv: list[str], **options: object) -> None:
        self._argv = argv
        self._fork = _context().Process(target=program.run, args=(argv,), kwargs=options, daemon=True)
        self._fork.start()
        assert self._fork.pid is not None
        self.pid = self._fork.pid

    @property
    def returncode(self) -> int | None:
        return self._fork.exitcode

    def poll(self) -> int | None:
        return self._fork.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._fork.join(timeout)
        if (status := self._fork.exitcode) is None:
            raise subprocess.TimeoutExpired(self._argv, timeout or 0)
        return status

    def send_signal(self, signum: int) -> None:
        if self._fork.exitcode is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
