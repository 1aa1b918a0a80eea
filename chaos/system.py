"""The whole system with two replicas of each process, restarted when they exit, as an orchestrator would do."""

import asyncio
import secrets
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from chaos import engines
from chaos.proxy import Link, Links
from embedded import ports
from embedded.ports import HOST
from embedded.processes import Child, Steps, describe_exit, drive, drive_async
from embedded.runner import JOB_WITHIN, READY_WITHIN, get
from embedded.system import JOBS, PROCESSES, ROOT, Job, Process, environment

REPLICAS = 2
RESTART_SECONDS = 0.5
GRACE_SECONDS = 15.0
"""How long a process may take to exit after SIGTERM."""

EXTRA = {"LOG_FORMAT": "json", "RETRY_BASE_SECONDS": "0.05"}
"""Eight attempts in about ten seconds, so that an event that always fails is dead-lettered within a run."""


@dataclass
class Member:
    """One replica of a process. While `held`, it is stopped intentionally and not restarted."""

    name: str
    process: Process
    port: int
    argv: list[str]
    variables: dict[str, str]
    log: Path
    child: Child | None = None
    held: bool = False

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self.child is not None and self.child.alive

    def spawn(self) -> None:
        """Start it, regardless of how the previous run ended."""
        self.child = Child(self.argv, log=self.log, name=self.name, cwd=ROOT, env=self.variables)

    def is_ready(self) -> bool:
        """Whether its readiness probe succeeds."""
        return get(self.port, "/health/ready")[0] == 200

    def wait_ready(self) -> Steps:
        """Wait until it is ready. Raises NotReady."""
        assert self.child is not None
        yield from self.child.until(self.is_ready, within=READY_WITHIN)


@dataclass
class System:
    """Engines, links and processes. `deaths` describes the unexpected exits of processes."""

    engines: engines.Engines
    members: dict[str, Member]
    links: dict[str, Link]
    folder: Path
    secret: str
    deaths: list[str] = field(default_factory=list)
    gateways: list[str] = field(default_factory=list)

    async def start(self) -> None:
        """Start everything, and return when every process is ready. Raises NotReady."""
        await self.engines.start()
        await asyncio.gather(*(drive_async(self._run(job)) for job in JOBS))
        for member in self.members.values():
            member.spawn()
        await asyncio.gather(*(asyncio.to_thread(drive, member.wait_ready()) for member in self.members.values()))

    def abandon(self) -> None:
        """Kill everything immediately."""
        for member in self.members.values():
            member.held = True
            if member.child is not None:
                member.child.kill9()
        self.engines.abandon()

    async def keep_alive(self) -> None:
        """Restart processes that exit unexpectedly, until cancelled."""
        exited: dict[str, float] = {}
        while True:
            now = time.monotonic()
            for member in self.members.values():
                if member.held or member.alive:
                    exited.pop(member.name, None)
                elif member.name not in exited:
                    exited[member.name] = now
                    assert member.child is not None
                    self.deaths.append(f"{member.name} {describe_exit(member.child.popen.returncode)}")
                elif now - exited[member.name] > RESTART_SECONDS:
                    member.spawn()
            await asyncio.sleep(0.1)

    async def stop_member(self, member: Member, signum: int = signal.SIGTERM) -> bool:
        """Stop a process, and kill it after GRACE_SECONDS. Returns whether it exited by itself."""
        member.held = True
        child = member.child
        assert child is not None
        began = time.monotonic()
        await asyncio.to_thread(child.stop, signum, grace=GRACE_SECONDS)
        return time.monotonic() - began < GRACE_SECONDS

    def _run(self, job: Job) -> Steps:
        env = variables(self.engines, job.service, {}, self.secret)
        child = Child(job.argv(sys.executable), log=self.folder / f"{job.name}.log", name=job.name, cwd=ROOT, env=env)
        yield from child.until_done(within=JOB_WITHIN)


def choose(folder: Path, links: Links, *, replicas: int = REPLICAS) -> System:
    """Create the system without starting it: addresses are chosen, and links created."""
    chosen = engines.choose(folder, links)
    secret = secrets.token_urlsafe(48)
    names = [(process, f"{process.name}-{number}") for process in PROCESSES for number in range(replicas)]
    numbers = dict(zip((name for _, name in names), ports.free(len(names)), strict=True))
    # The gateways reach each replica of each service through its own link.
    urls: dict[str, list[str]] = {}
    links_by_name = dict(chosen.links)
    for process, name in names:
        if process.command[0] == "gunicorn":
            links_by_name[f"gateway>{name}"] = link = links.add(f"gateway>{name}", ports.free(1)[0], numbers[name])
            urls.setdefault(f"{process.service.upper()}_URL", []).append(f"http://{HOST}:{link.port}")
    upstreams = {name: ",".join(addresses) for name, addresses in urls.items()}
    members = {}
    for process, name in names:
        own = {**variables(chosen, process.service, upstreams, secret), **process.variables(numbers[name])}
        if "CONSUMER_ID" in own:
            own["CONSUMER_ID"] = f"{process.service}-{name[-1]}"
        argv = process.argv(sys.executable, numbers[name])
        members[name] = Member(name, process, numbers[name], argv, own, folder / f"{name}.log")
    gateways = [f"http://{HOST}:{numbers[name]}" for process, name in names if process.service == "gateway"]
    return System(chosen, members, links_by_name, folder, secret, gateways=gateways)


def variables(chosen: engines.Engines, service: str, urls: dict[str, str], secret: str) -> dict[str, str]:
    """The environment of a service's processes and jobs."""
    addresses = {**chosen.addresses(service), **urls}
    return {**environment(service, addresses=addresses, secret_key=secret), **EXTRA}
