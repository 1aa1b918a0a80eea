"""Child processes that are not left behind: each has its own process group and, on Linux, dies with its parent."""

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from embedded import suspending
from embedded.errors import NotReady
from embedded.signals import descendants, signal_all

LOG_LINES = 15
POLL = 0.02
PAUSE_SHARE, LONGEST_PAUSE = 0.05, 0.25
"""The pause between two probes of a process that starts: this share of the time since its start, and at most these seconds."""
START_WITHIN = 120.0
DONE = object()

# A start that yields wherever it would wait. One thread can thus start several things concurrently (a child is killed when
# the thread that forked it ends), and can cancel a start at any of these points.
Steps = Iterator[None]

WITH_PARENT = Path(__file__).with_name("with_parent.py")


def with_parent(
    argv: Sequence[str | Path],
    env: Mapping[str, str] | None,
    *,
    death_signal: int = signal.SIGKILL,
    user: tuple[int, int] | None = None,
) -> list[str]:
    """A command that runs this one, so that on Linux the kernel sends it `death_signal` when this process dies.

    The parent is the *thread* that starts it, so start children from the main thread. See `with_parent.py`. `env` is the
    environment of the child, None for that of this process. Raises FileNotFoundError if there is no such program.
    """
    if shutil.which(argv[0], path=(os.environ if env is None else env).get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(argv[0]))
    uid, gid = user or ("", "")
    own = (sys.executable, "-IS", WITH_PARENT, int(death_signal), os.getpid(), uid, gid)
    return [str(part) for part in (*own, *argv)]


class Child:
    """A running program, with its output in a file."""

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
        """Start the program, optionally as another user (uid, gid). It receives `death_signal` when this process dies.

        Raises FileNotFoundError if there is no such program.
        """
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                with_parent(argv, env, death_signal=death_signal, user=user),
                cwd=cwd,
                env=dict(env) if env is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self.popen.poll() is None

    def family(self) -> list[int]:
        """Its process id and those of all its descendants."""
        return [self.pid, *descendants(self.pid)]

    def stop(self, signum: int = signal.SIGTERM, *, grace: float = 15.0) -> int:
        """Send it the signal; after `grace` seconds kill it and all its descendants. Returns its exit status."""
        if self.alive:
            self.popen.send_signal(signum)
            suspending.resume(self.pid, [self.pid])  # a paused process would not handle it
            try:
                self.popen.wait(grace)
            except subprocess.TimeoutExpired:
                self.kill9()
        return self.popen.wait()

    def kill9(self) -> None:
        """Kill it and all its descendants immediately, like a power failure."""
        if self.alive:
            signal_all(self.family(), signal.SIGKILL)
        self.popen.wait()
        suspending.resume(self.pid)

    def pause(self) -> None:
        """Suspend it and its descendants: they keep their sockets and locks, but do not respond."""
        suspending.suspend(self.pid, self.family())

    def resume(self) -> None:
        """Continue after `pause`."""
        suspending.resume(self.pid, self.family())

    def last_lines(self, count: int = LOG_LINES) -> str:
        """The last lines of its log."""
        return tail(self.log, count)

    def check(self) -> None:
        """Raises NotReady, with the last log lines, if it has exited."""
        if not self.alive:
            raise NotReady(f"{self.name} {describe_exit(self.popen.returncode)}; its last lines:\n{self.last_lines()}")

    def until(self, ready: Callable[[], bool], *, within: float) -> Steps:
        """Poll `ready` until it is true. Raises NotReady, with the last log lines, on exit or after `within` seconds."""
        started = probed = time.monotonic()
        while not ready():
            self.check()
            if probed > started + within:
                raise NotReady(f"{self.name} was not ready after {within:g} s; its last lines:\n{self.last_lines()}")
            # A probe makes the process check its dependencies, which slows its start down.
            pause = min((probed - started) * PAUSE_SHARE, LONGEST_PAUSE)
            yield
            while time.monotonic() < probed + pause:
                yield
            probed = time.monotonic()

    def until_done(self, *, within: float) -> Steps:
        """Wait until the program exits with status 0. Raises NotReady for another status, or after `within` seconds."""
        deadline = time.monotonic() + within
        while self.alive:
            if time.monotonic() > deadline:
                self.kill9()
                raise NotReady(f"{self.name} took longer than {within:g} s; its last lines:\n{self.last_lines()}")
            yield
        if self.popen.returncode != 0:
            self.check()


def describe_exit(status: int | None) -> str:
    """Describe how a process exited, from its return code."""
    if status is not None and status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"


def drive(*all_steps: Steps) -> None:
    """Run several starts concurrently, until all are complete."""
    running = list(all_steps)
    while running:
        running = [steps for steps in running if next(steps, DONE) is not DONE]
        if running:
            time.sleep(POLL)


async def drive_async(steps: Steps) -> None:
    """Run a start in an event loop."""
    for _ in steps:
        await asyncio.sleep(POLL)


class Engine:
    """A server that starts step by step; use as a context manager, or call `start` and `stop`."""

    def starting(self) -> Steps:
        """Start, step by step."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop gracefully."""
        raise NotImplementedError

    def start(self) -> None:
        """Start, and return when ready. Raises NotReady if it exits or does not respond."""
        drive(self.starting())

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.stop()


def tail(log: Path, count: int = LOG_LINES) -> str:
    """The last lines of a file, indented, or a note that there are none."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        lines = []
    return "\n".join(f"  | {line}" for line in lines) or "  | (no output)"
