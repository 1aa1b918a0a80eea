"""Failures on request, in the system of `make up`: a process or an engine is frozen, slowed down or killed, a record is poisoned.

These are the failures of `make chaos` that need no proxy between the processes. Each of them is temporary: a killed process is
restarted, what is frozen or slow continues after a while, and everything continues when the system stops.
"""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from embedded import poison, suspending
from embedded.console import CONSOLE
from embedded.errors import EmbeddedError
from embedded.kafka import Kafka
from embedded.local_system import LocalSystem
from embedded.postgres import PostgreSQL
from embedded.processes import Child
from embedded.runner import Running
from embedded.signals import descendants
from embedded.visitors import visit

LONGEST_SECONDS = 120.0
"""Maximum duration of a failure."""
STOPPED_SECONDS, RUNNING_SECONDS = 0.2, 0.05
"""How a slow process runs: it is suspended for four fifths of the time."""
REMEMBERED = 30
"""Number of failures that are remembered."""

State = Literal["running", "frozen", "slow", "down"]


class CannotBreak(EmbeddedError):
    """The failure is not possible; the message says why."""


@dataclass(frozen=True)
class Target:
    """What can fail: a process of the system, or an engine. `pause`, `resume` and `kill` are called in another thread."""

    name: str
    kind: Literal["process", "engine"]
    is_alive: Callable[[], bool]
    pid: Callable[[], int]
    pause: Callable[[], None]
    resume: Callable[[], None]
    kill: Callable[[], None]


class _Lasting:
    """A failure that lasts; `until` is on the clock of `time.monotonic()`.

    Signals are sent in other threads, since it takes a while to find an engine's processes. Once it has ended, it suspends
    nothing any more, although such a thread may be late.
    """

    def __init__(self, target: Target, state: State, seconds: float) -> None:
        self.state = state
        self.until = time.monotonic() + seconds
        self.task: asyncio.Task[None] | None = None
        self._target = target
        self._lock = threading.Lock()
        self._ended = False

    def pause(self) -> None:
        """Suspend the target, unless this has ended."""
        with self._lock:
            if not self._ended:
                self._target.pause()

    def resume(self) -> None:
        """Let the target continue."""
        with self._lock:
            self._target.resume()

    def end(self) -> None:
        """Let the target continue, and keep it so."""
        with self._lock:
            self._ended = True
            self._target.resume()


class Faults:
    """The failures of one running system. Not for several threads."""

    def __init__(self, local: LocalSystem) -> None:
        self._local = local
        self._lasting: dict[str, _Lasting] = {}
        self._visit: asyncio.Task[None] | None = None
        self._done: deque[dict[str, object]] = deque(maxlen=REMEMBERED)

    @property
    def servers(self) -> str:
        """Where Kafka is."""
        return self._local.engines.kafka.bootstrap_servers

    def describe(self) -> dict[str, object]:
        """The targets with their states, and the last failures, newest first; times in seconds since the epoch."""
        return {"targets": [self._described(one) for one in self._targets()], "done": list(self._done)[::-1]}

    async def freeze(self, name: str, seconds: float) -> str:
        """Suspend a target for a while: it keeps its connections and locks, and does not respond."""
        await self._begin(name, "frozen", seconds, _freeze)
        return self._note(f"{name} is frozen for {seconds:g} s")

    async def slow(self, name: str, seconds: float) -> str:
        """Let a target run for a fifth of the time, for a while."""
        await self._begin(name, "slow", seconds, _stutter)
        return self._note(f"{name} is slowed down for {seconds:g} s")

    async def resume(self, name: str) -> str:
        """End what `freeze` or `slow` began."""
        self._target(name)
        await self._end(name)
        return self._note(f"{name} continues")

    async def kill(self, name: str) -> str:
        """Kill a target by SIGKILL, with its children. It is restarted as after any exit."""
        target = self._target(name)
        if not target.is_alive():
            raise CannotBreak(f"{name} is not running: it is being restarted")
        await self._end(name)
        await asyncio.to_thread(target.kill)
        return self._note(f"{name} is killed")

    async def poison(self, topic: str, flaw: str) -> str:
        """Write a record to a topic that its consumers cannot process; returns its place."""
        place = await asyncio.to_thread(poison.send, self.servers, topic, flaw)
        return self._note(f"{place} is poisoned: {poison.FLAWS[flaw]}")

    async def visit(self, seconds: float) -> str:
        """Send requests to the gateway for a while; how many were accepted is noted at the end."""
        _check(seconds)
        if self._visit is not None and not self._visit.done():
            raise CannotBreak("requests are being sent already")

        async def visit_and_note() -> None:
            self._note(await visit(self._local.addresses["GATEWAY_URL"], seconds))

        self._visit = asyncio.create_task(visit_and_note())
        return self._note(f"requests are sent for {seconds:g} s")

    async def end_all(self) -> None:
        """Let everything continue."""
        if self._visit is not None:
            self._visit.cancel()
        for name in list(self._lasting):
            await self._end(name)

    async def _begin(
        self, name: str, state: State, seconds: float, work: Callable[[_Lasting], Coroutine[Any, Any, None]]
    ) -> None:
        _check(seconds)
        target = self._target(name)
        await self._end(name)
        lasting = self._lasting[name] = _Lasting(target, state, seconds)

        async def work_and_end() -> None:
            try:
                await work(lasting)
            finally:
                await asyncio.shield(asyncio.to_thread(lasting.end))
                if self._lasting.get(name) is lasting:
                    del self._lasting[name]

        lasting.task = asyncio.create_task(work_and_end())

    async def _end(self, name: str) -> None:
        lasting = self._lasting.get(name)
        if lasting is not None and lasting.task is not None:
            lasting.task.cancel()
            await asyncio.wait([lasting.task])

    def _note(self, what: str) -> str:
        self._done.append({"at": time.time(), "what": what})
        self._local.show(CONSOLE.name, f"break it: {what}")
        return what

    def _target(self, name: str) -> Target:
        for target in self._targets():
            if target.name == name:
                return target
        raise CannotBreak(f"there is no process or engine {name[:80]!r}")

    def _targets(self) -> list[Target]:
        processes = [one for one in self._local.runner.running.values() if not one.is_job and one.name != CONSOLE.name]
        engines = self._local.engines
        return [*map(_process, processes), _engine("postgres", engines.postgres), _engine("kafka", engines.kafka)]

    def _described(self, target: Target) -> dict[str, object]:
        lasting = self._lasting.get(target.name)
        alive = target.is_alive()
        return {
            "name": target.name,
            "kind": target.kind,
            "state": "down" if not alive else lasting.state if lasting else "running",
            "seconds_left": round(max(0.0, lasting.until - time.monotonic()), 1) if lasting and alive else 0.0,
            "pid": target.pid() if alive else None,
        }


def _check(seconds: float) -> None:
    if not 0 < seconds <= LONGEST_SECONDS:
        raise CannotBreak(f"it must last more than 0 and at most {LONGEST_SECONDS:g} seconds, not {seconds:g}")


async def _freeze(lasting: _Lasting) -> None:
    await asyncio.to_thread(lasting.pause)
    await asyncio.sleep(lasting.until - time.monotonic())


async def _stutter(lasting: _Lasting) -> None:
    while time.monotonic() < lasting.until:
        await asyncio.to_thread(lasting.pause)
        await asyncio.sleep(STOPPED_SECONDS)
        await asyncio.to_thread(lasting.resume)
        await asyncio.sleep(RUNNING_SECONDS)


def _process(running: Running) -> Target:
    def send(signum: int) -> None:
        if running.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.child.pid, signum)

    def each(act: Callable[[int, list[int]], None]) -> None:
        if running.child is not None:
            act(running.child.pid, [running.child.pid, *descendants(running.child.pid)])

    return Target(
        running.name,
        "process",
        lambda: running.alive,
        lambda: running.child.pid if running.child else 0,
        lambda: each(suspending.suspend),
        lambda: each(suspending.resume),
        lambda: send(signal.SIGKILL),
    )


def _engine(name: str, engine: PostgreSQL | Kafka) -> Target:
    def children() -> list[Child]:
        found = [engine.process] if isinstance(engine, PostgreSQL) else [node.process for node in engine.members]
        return [child for child in found if child is not None]

    def each(act: Callable[[Child], None]) -> None:
        for child in children():
            act(child)

    return Target(
        name,
        "engine",
        lambda: bool(children()) and all(child.alive for child in children()),
        lambda: children()[0].pid,
        lambda: each(Child.pause),
        lambda: each(Child.resume),
        lambda: each(Child.kill9),
    )
