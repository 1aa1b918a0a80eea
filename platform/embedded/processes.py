"""A child process that cannot be left behind: its own process group, and on Linux it ends when we are killed."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from embedded.errors import NotReady

PR_SET_PDEATHSIG = 1
LOG_LINES = 15
POLL = 0.02
START_WITHIN = 120.0
DONE = object()

# A start that yields wherever it would wait. So one thread can start several things at once (a child's leash ends with
# the thread that forked it), and a start can be given up at every such place.
Steps = Iterator[None]

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def leash(death_signal: int = signal.SIGKILL) -> Callable[[], None] | None:
    """What a child runs between fork and exec, so that the kernel sends it that signal when its parent dies.

    The parent is the *thread* that forks: start children from the main thread. None where the kernel cannot do it.
    """
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return tie


class Child:
    """One running program, with its output in a file."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        name: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: tuple[int, int] | None = None,
        death_signal: int = signal.SIGKILL,
    ) -> None:
        """Start it, as another user (uid, gid) if one is given. `death_signal` is what it gets when we die."""
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [str(part) for part in argv],
                cwd=cwd,
                env=dict(env) if env is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user[0] if user else None,
                group=user[1] if user else None,
                extra_groups=[] if user else None,
                preexec_fn=leash(death_signal),  # noqa: PLW1509  it calls nothing that takes a lock
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.popen.poll() is None

    def family(self) -> list[int]:
        """Its process id and those of all its descendants."""
        return [self.pid, *descendants(self.pid)]

    def stop(self, signum: int = signal.SIGTERM, *, grace: float = 15.0) -> int:
        """Ask it to end with that signal; after `grace` seconds kill it and all its descendants. Returns its exit status."""
        if self.alive:
            self.popen.send_signal(signum)
            self.popen.send_signal(signal.SIGCONT)  # one that is paused could not hear it
            try:
                self.popen.wait(grace)
            except subprocess.TimeoutExpired:
                self.kill9()
        return self.popen.wait()

    def kill9(self) -> None:
        """Kill it and all its descendants at once, as a power cut would."""
        if self.alive:
            signal_all(self.family(), signal.SIGKILL)
        self.popen.wait()

    def pause(self) -> None:
        """Freeze it and its descendants: they keep their sockets and locks and answer nothing."""
        signal_all(self.family(), signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        signal_all(self.family(), signal.SIGCONT)

    def last_lines(self, count: int = LOG_LINES) -> str:
        """The end of its log."""
        return tail(self.log, count)

    def check(self) -> None:
        """Raises NotReady, with the last log lines, when it has died."""
        if not self.alive:
            raise NotReady(f"{self.name} {ending(self.popen.returncode)}; its last lines:\n{self.last_lines()}")

    def until(self, ready: Callable[[], bool], *, within: float) -> Steps:
        """Poll `ready` until it holds. Raises NotReady, with the last log lines, when the process dies or the time is over."""
        deadline = time.monotonic() + within
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} was not ready after {within:g} s; its last lines:\n{self.last_lines()}")
            yield

    def until_done(self, *, within: float) -> Steps:
        """Wait for a program that should end by itself with status 0. Raises NotReady otherwise."""
        deadline = time.monotonic() + within
        while self.alive:
            if time.monotonic() > deadline:
                self.kill9()
                raise NotReady(f"{self.name} took longer than {within:g} s; its last lines:\n{self.last_lines()}")
            yield
        if self.popen.returncode != 0:
            self.check()


def ending(status: int | None) -> str:
    """How a process ended, in words, from its return code."""
    if status is not None and status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def drive(*all_steps: Steps) -> None:
    """Take steps, several side by side, until all are done."""
    waiting = list(all_steps)
    while waiting:
        waiting = [steps for steps in waiting if next(steps, DONE) is not DONE]
        if waiting:
            time.sleep(POLL)


async def drive_async(steps: Steps) -> None:
    """The same in an event loop."""
    for _ in steps:
        await asyncio.sleep(POLL)


class Engine:
    """What starts step by step; use as a context manager, or call `start` and `stop`."""

    def starting(self) -> Steps:
        """`start`, step by step."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it gracefully."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and return when it serves. Raises NotReady when it dies or does not answer."""
        drive(self.starting())

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop it."""
        self.stop()


def tail(log: Path, count: int = LOG_LINES) -> str:
    """The last lines of a file, indented; says so if there are none."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        lines = []
    return "\n".join(f"  | {line}" for line in lines) or "  | (it wrote nothing)"


def descendants(pid: int) -> list[int]:
    """The process ids of all children, grandchildren and so on."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def signal_all(pids: Sequence[int], signum: int) -> None:
    """Send a signal to each that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
