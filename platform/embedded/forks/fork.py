"""A Python program in a fork of the fork server, which starts with the first fork and ends with this process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from embedded.errors import NotReady
from embedded.forks import program

AVAILABLE = sys.platform == "linux"
"""Whether programs run as forks. On other systems, such as macOS, the system's own libraries may fail in a fork."""

ENDS_WITHIN = 10.0
"""How long a killed fork server may take to end, in seconds."""

LIBRARIES = "embedded.forks.libraries"

# An exit status can be received once: of two threads that ask for it, one would be told that the fork server is gone. A start
# asks for those of all others.
_lock = threading.Lock()


@cache
def prepare() -> None:
    """Start the fork server, and wait until it has loaded the libraries. Raises NotReady if it cannot."""
    first = _context().Process(target=program.require, args=(LIBRARIES,))
    _start(first)
    connection.wait([first.sentinel])
    if _status(first) != 0:
        raise NotReady(f"the libraries cannot be loaded: run `{sys.executable} -c 'import {LIBRARIES}'` in platform/")


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([LIBRARIES])
    return context


def _start(process: ForkServerProcess) -> None:
    """Fork it. This also starts the fork server, if there is none or it has ended."""
    with _lock:
        before, main = os.environ.get("PYTHONPATH"), sys.modules["__main__"]
        # The fork server ignores a module that it cannot import, and before Python 3.13 has the import path of its environment.
        os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
        # A fork would load the main module of this process again: multiprocessing expects functions there.
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            _repeat_while_it_ends(process.start)
        finally:
            sys.modules["__main__"] = main
            del os.environ["PYTHONPATH"]
            if before is not None:
                os.environ["PYTHONPATH"] = before


def _status(process: ForkServerProcess) -> int | None:
    with _lock:
        return process.exitcode


def _repeat_while_it_ends(start: Callable[[], None]) -> None:
    """Repeat it while the fork server is ending: until the system reports that, it still seems to run."""
    deadline = time.monotonic() + ENDS_WITHIN
    while True:
        try:
            return start()
        except (EOFError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Fork:
    """A running program: what its users need of `subprocess.Popen`.

    Everything is as in a process of its own: session, environment, import path, output, signals, exit status, and its command
    line in the list of processes. Only its parent is the fork server, and `/proc/PID/environ` is that of the fork server.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        out: str | Connection,
        err: str | None = None,
    ) -> None:
        """Start `python [-P] SCRIPT ...`, `python -m MODULE ...` or `python -c CODE ...`.

        Its output is appended to the file `out`, or written to that pipe. Errors are appended to `err`, by default to the same
        place. It is killed when this process ends in any way.
        """
        self._argv = list(argv)
        options = {"cwd": cwd, "env": dict(env), "out": out, "err": err}
        self._process = _context().Process(target=program.run, args=(self._argv,), kwargs=options, daemon=True)
        _start(self._process)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def sentinel(self) -> int:
        """A file descriptor that is readable once it has ended."""
        return self._process.sentinel

    @property
    def returncode(self) -> int | None:
        """Its exit status, as of `subprocess.Popen`, but without having to ask for it."""
        return self.poll()

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        return _status(self._process)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        connection.wait([self.sentinel], timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(self._argv, timeout or 0)
        return status

    def send_signal(self, signum: int) -> None:
        """Send it a signal, if it is running."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)
