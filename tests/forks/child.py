"""A Python program that a fork server starts."""

import multiprocessing
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from embedded.processes import Child
from tests.forks import program

# An exit status can be received once: of two threads that ask for it, one would be told that the fork server is gone. A start
# asks for those of all others.
_lock = threading.Lock()


@cache
def _context() -> ForkServerContext:
    """The fork server of this process. It starts with the first fork, and ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.forks.libraries"])
    return context


class Forked(Child):
    """A `Child` that is a fork of a process which has loaded the libraries: it starts in half the time.

    Everything else is as in a process of its own: session, environment, import path, output, signals, exit status. Only its
    command line, in the list of processes, is that of the fork server.

    `argv` is `python [-P] SCRIPT ...`, `python -m MODULE ...` or `python -c CODE ...`. Standard error is written to `error_log`,
    by default also to the log.
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


def completed(
    argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], within: float = 120
) -> tuple[int, str, str]:
    """Run a program as a fork to its end. Returns its exit status, output and errors. Raises TimeoutExpired after `within` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        child = Forked(argv, log=out, error_log=err, name=str(argv[-1]), cwd=cwd, env=env)
        try:
            status = child.popen.wait(within)
        finally:
            child.kill9()
        return status, out.read_text(), err.read_text()


class _Process:
    """What `Child` and its users need of `subprocess.Popen`."""

    def __init__(self, argv: list[str], **options: object) -> None:
        self._argv = argv
        self._fork = _context().Process(target=program.run, args=(argv,), kwargs=options, daemon=True)
        with _lock:
            self._fork.start()
        assert self._fork.pid is not None
        self.pid = self._fork.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with _lock:
            return self._fork.exitcode

    def wait(self, timeout: float | None = None) -> int:
        connection.wait([self._fork.sentinel], timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(self._argv, timeout or 0)
        return status

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
