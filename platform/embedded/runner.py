"""Runs the system's processes concurrently, waits until they are ready, merges their logs, and stops them gracefully."""

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
from embedded.forks import asynchronous
from embedded.forks.asynchronous import Program
from embedded.processes import LOG_LINES, describe_exit
from embedded.system import ROOT, Job, Process

# Much more than an idle machine needs, since a busy one is slow.
READY_WITHIN = 90.0
JOB_WITHIN = 120.0
LONGEST_LINE = 1 << 20

# A process that exits is restarted after a pause, which doubles each time and is reset once the process has run a while.
BACKOFF_INITIAL, BACKOFF_MAX, BACKOFF_RESET_AFTER = 0.5, 15.0, 60.0

Show = Callable[[str, str], None]


@dataclass
class Running:
    """A process, through all its restarts."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    port: int | None = None
    required: bool = True
    """Whether the system cannot do without it."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    child: Program | None = None
    reader: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self.child is not None and self.child.returncode is None

    @property
    def is_job(self) -> bool:
        """Whether it runs to completion; other processes serve a port until they are stopped."""
        return self.port is None

    def last_lines(self) -> str:
        """The last lines of its log, indented."""
        return "\n".join(f"  | {line}" for line in self.lines) or "  | (no output)"

    def exit_description(self) -> str:
        """How it exited, in words."""
        return describe_exit(self.child.returncode if self.child else None)


class Runner:
    """Starts processes, and stops all those that it has started.

    `show(name, line)` is called for every line of their output. `environment(service)` is the environment of a service.
    """

    def __init__(self, environment: Callable[[str], Mapping[str, str]], show: Show | None = None) -> None:
        self._environment = environment
        self._show = show or (lambda name, line: None)
        self.running: dict[str, Running] = {}
        self._stopping = False

    async def job(self, job: Job) -> None:
        """Run a job to completion. Raises NotReady, with its last log lines, if it fails or takes too long."""
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
        await self._read_to_end(running)
        if running.child.returncode != 0:
            raise NotReady(f"{job.name} {running.exit_description()}; its last lines:\n{running.last_lines()}")
        del self.running[job.name]

    async def start(
        self, process: Process, port: int, health_port: int | None = None, *, required: bool = True
    ) -> Running:
        """Start a long-lived process, without waiting until it is ready. The exit of one that is not `required` is no error."""
        environment = {**self._environment(process.service), **process.variables(port, health_port)}
        running = Running(process.name, process.argv(sys.executable, port), environment, port, required)
        self.running[process.name] = running
        await self._spawn(running)
        return running

    async def ready(self, running: Running, *, within: float = READY_WITHIN) -> None:
        """Wait until its `/health/ready` responds with 200. Raises NotReady, with its last response and log lines."""
        deadline = time.monotonic() + within
        last_response = "nothing listens on its port"
        while True:
            if not running.alive:
                await self._read_to_end(running)
                raise NotReady(
                    f"{running.name} {running.exit_description()} before it was ready; its last lines:\n{running.last_lines()}"
                )
            assert running.port is not None
            if await asyncio.to_thread(ports.listens, running.port):
                status, body = await asyncio.to_thread(get, running.port, "/health/ready")
                if status == 200:
                    return
                last_response = f"/health/ready responded {status} {body[:500]}" if status else last_response
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{running.name} was not ready after {within:g} s ({last_response}); its last lines:\n{running.last_lines()}"
                )
            await asyncio.sleep(0.1)

    async def check(self) -> None:
        """Raises NotReady, with the name and the last log lines, if a process has exited unexpectedly."""
        for running in list(self.running.values()):
            if running.required and not (running.is_job or running.alive or self._stopping or running.child is None):
                await self._read_to_end(running)
                raise NotReady(f"{running.name} {running.exit_description()}; its last lines:\n{running.last_lines()}")

    async def keep_alive(self, running: Running) -> None:
        """Restart the process whenever it exits."""
        pause = BACKOFF_INITIAL
        while True:
            assert running.child is not None
            started = time.monotonic()
            await running.child.wait()
            await self._read_to_end(running)
            if self._stopping:
                return
            if time.monotonic() - started > BACKOFF_RESET_AFTER:
                pause = BACKOFF_INITIAL
            self._show(running.name, f"{running.name} {running.exit_description()}; restarting in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_MAX)
            if self._stopping:
                return
            await self._spawn(running)

    async def stop(self, *, grace: float = 10.0) -> None:
        """Stop all gracefully: SIGTERM, and SIGKILL for those that still run after `grace` seconds."""
        self._stopping = True
        living = [running for running in self.running.values() if running.alive]
        for running in living:
            _signal(running, signal.SIGTERM)
        waits = [asyncio.ensure_future(running.child.wait()) for running in living if running.child is not None]
        if waits:
            await asyncio.wait(waits, timeout=grace)
        for running in living:
            if running.alive:
                self._show(running.name, f"{running.name} did not exit within {grace:g} s and was killed")
            # And any processes left in its group.
            _signal(running, signal.SIGKILL)
        if waits:
            await asyncio.wait(waits)
        for running in living:
            await self._read_to_end(running)

    def kill(self) -> None:
        """Kill all immediately."""
        self._stopping = True
        for running in self.running.values():
            if running.alive:
                _signal(running, signal.SIGKILL)

    async def _spawn(self, running: Running) -> None:
        running.child = await asynchronous.start(running.argv, running.environment, cwd=ROOT, limit=LONGEST_LINE)
        running.reader = asyncio.create_task(self._read(running, running.child))

    async def _read(self, running: Running, child: Program) -> None:
        assert child.stdout is not None
        async for line in _lines(child.stdout):
            running.lines.append(line)
            self._show(running.name, line)

    async def _read_to_end(self, running: Running) -> None:
        """Wait until all of its output has been read."""
        if running.reader is not None:
            # A grandchild may hold the pipe open.
            await asyncio.wait([running.reader], timeout=1)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than LONGEST_LINE: readline has dropped it
            yield "(line too long)"
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()


def _signal(running: Running, signum: int) -> None:
    """Send a signal to its process group, but SIGTERM to the process alone, which stops its own children."""
    if running.child is None:
        return
    with contextlib.suppress(ProcessLookupError):
        if signum == signal.SIGTERM:
            running.child.send_signal(signum)
        else:
            os.killpg(running.child.pid, signum)


def get(port: int, path: str, *, timeout: float = 3.0) -> tuple[int, str]:
    """Status and body of a GET request to this machine; (0, reason) without a response."""
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
    """Wait for all. If one fails, cancel the others and raise its error, not an exception group."""
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
