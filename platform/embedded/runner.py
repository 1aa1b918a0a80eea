"""Runs the system's processes side by side: in order, until ready, with one stream of their logs, and a graceful end."""

import asyncio
import contextlib
import http.client
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from embedded import ports
from embedded.errors import NotReady
from embedded.processes import LOG_LINES, ending, leash
from embedded.system import ROOT, Job, Process

# Many times what an idle machine needs: a busy one is slow, not broken.
READY_WITHIN = 90.0
JOB_WITHIN = 120.0
LONGEST_LINE = 1 << 20

# A process that dies is started again after a pause that doubles each time, and is short again once it has run a while.
BACKOFF_FIRST, BACKOFF_MOST, BACKOFF_FORGOTTEN_AFTER = 0.5, 15.0, 60.0

Show = Callable[[str, str], None]


@dataclass
class Running:
    """A process of ours, through all its restarts."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    port: int | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    child: asyncio.subprocess.Process | None = None
    reader: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self.child is not None and self.child.returncode is None

    @property
    def is_job(self) -> bool:
        """Whether it is to end by itself; else it serves a port for as long as it lives."""
        return self.port is None

    def last_lines(self) -> str:
        """The end of its log, indented."""
        return "\n".join(f"  | {line}" for line in self.lines) or "  | (it wrote nothing)"

    def ended(self) -> str:
        """How it ended, in words."""
        return ending(self.child.returncode if self.child else None)


class Runner:
    """Starts processes, and ends all that it has started.

    `show(name, line)` is called for every line that one writes. `environment(service)` is what its processes find in theirs.
    """

    def __init__(self, environment: Callable[[str], Mapping[str, str]], show: Show | None = None) -> None:
        self._environment = environment
        self._show = show or (lambda name, line: None)
        self.running: dict[str, Running] = {}
        self._stopping = False

    async def job(self, job: Job) -> None:
        """Run something to its end. Raises NotReady, with its last lines, when it fails or takes too long."""
        running = Running(job.name, job.argv(sys.executable), dict(self._environment(job.service)))
        self.running[job.name] = running
        await self._spawn(running)
        assert running.child is not None
        try:
            async with asyncio.timeout(JOB_WITHIN):
                await running.child.wait()
        except TimeoutError:
            raise NotReady(
                f"{job.name} took longer than {JOB_WITHIN:g} s; its last lines:\n{running.last_lines()}"
            ) from None
        await self._drained(running)
        if running.child.returncode != 0:
            raise NotReady(f"{job.name} {running.ended()}; its last lines:\n{running.last_lines()}")
        del self.running[job.name]

    async def start(self, process: Process, port: int) -> Running:
        """Start a long-lived process; it need not be ready when this returns."""
        environment = {**self._environment(process.service), **process.variables(port)}
        running = Running(process.name, process.argv(sys.executable, port), environment, port)
        self.running[process.name] = running
        await self._spawn(running)
        return running

    async def ready(self, running: Running, *, within: float = READY_WITHIN) -> None:
        """Wait until its `/health/ready` says 200. Raises NotReady, with what it said and its last lines."""
        deadline = time.monotonic() + within
        said = "nothing answered on its port"
        while True:
            if not running.alive:
                await self._drained(running)
                raise NotReady(
                    f"{running.name} {running.ended()} before it was ready; its last lines:\n{running.last_lines()}"
                )
            assert running.port is not None
            if await asyncio.to_thread(ports.listens, running.port):
                status, body = await asyncio.to_thread(get, running.port, "/health/ready")
                if status == 200:
                    return
                said = f"/health/ready said {status} {body[:500]}" if status else said
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{running.name} was not ready after {within:g} s ({said}); its last lines:\n{running.last_lines()}"
                )
            await asyncio.sleep(0.05)

    async def check(self) -> None:
        """Raises NotReady, with its name and its last lines, when a process has ended that should not."""
        for running in list(self.running.values()):
            if not (running.is_job or running.alive or self._stopping or running.child is None):
                await self._drained(running)
                raise NotReady(f"{running.name} {running.ended()}; its last lines:\n{running.last_lines()}")

    async def keep_alive(self, running: Running) -> None:
        """Start it again whenever it dies."""
        pause = BACKOFF_FIRST
        while True:
            assert running.child is not None
            began = time.monotonic()
            await running.child.wait()
            await self._drained(running)
            if self._stopping:
                return
            if time.monotonic() - began > BACKOFF_FORGOTTEN_AFTER:
                pause = BACKOFF_FIRST
            self._show(running.name, f"{running.name} {running.ended()}; it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_MOST)
            if self._stopping:
                return
            await self._spawn(running)

    async def stop(self, *, grace: float = 10.0) -> None:
        """End all gracefully: SIGTERM, and SIGKILL for those that still run after `grace` seconds."""
        self._stopping = True
        living = [running for running in self.running.values() if running.alive]
        for running in living:
            _signal(running, signal.SIGTERM)
        waits = [asyncio.ensure_future(running.child.wait()) for running in living if running.child is not None]
        if waits:
            await asyncio.wait(waits, timeout=grace)
        for running in living:
            if running.alive:
                self._show(running.name, f"{running.name} did not end within {grace:g} s, and was killed")
            # Also what it may have left in its group.
            _signal(running, signal.SIGKILL)
        if waits:
            await asyncio.wait(waits)
        for running in living:
            await self._drained(running)

    def kill(self) -> None:
        """End all at once."""
        self._stopping = True
        for running in self.running.values():
            if running.alive:
                _signal(running, signal.SIGKILL)

    async def _spawn(self, running: Running) -> None:
        # The event loop runs in the main thread, which lives as long as we do: the leash is tied to it.
        running.child = await asyncio.create_subprocess_exec(
            *running.argv,
            cwd=ROOT,
            env=running.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=leash(),
            limit=LONGEST_LINE,
        )
        running.reader = asyncio.create_task(self._read(running, running.child))

    async def _read(self, running: Running, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        async for line in _lines(child.stdout):
            running.lines.append(line)
            self._show(running.name, line)

    async def _drained(self, running: Running) -> None:
        """Wait until all that it wrote has been read."""
        if running.reader is not None:
            # A grandchild may hold the pipe open.
            await asyncio.wait([running.reader], timeout=1)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than LONGEST_LINE: readline has dropped it
            yield "(a line that is too long to show)"
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()


def _signal(running: Running, signum: int) -> None:
    """To its process group; SIGTERM to itself alone, as its own children are its own to end."""
    if running.child is None:
        return
    with contextlib.suppress(ProcessLookupError):
        if signum == signal.SIGTERM:
            running.child.send_signal(signum)
        else:
            os.killpg(running.child.pid, signum)


def get(port: int, path: str, *, timeout: float = 3.0) -> tuple[int, str]:
    """Status and body of a GET on this machine; (0, why) when nothing answers."""
    connection = http.client.HTTPConnection(ports.HOST, port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


async def all_or_first_failure(*work: Awaitable[None]) -> None:
    """Wait for all; when one fails the others are cancelled, and its error is raised by itself, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(_as_coroutine(one))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
