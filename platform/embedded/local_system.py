"""The whole system on this machine. Each engine, job and process starts as soon as its dependencies are ready."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from embedded.console import CONSOLE, Console
from embedded.engines import Engines
from embedded.errors import NotReady
from embedded.processes import Steps, drive_async
from embedded.runner import Runner, Show, all_or_first_failure
from embedded.system import JOBS, PROCESSES, SERVICE_NAMES, Job, Process, environment, urls

REPORTS = {"migrate": "database migrated", "topics": "topics created", "createsuperuser": "admin login created"}


class LocalSystem:
    """Engines, jobs and processes with their addresses. `report` is called with each step that is complete."""

    def __init__(
        self,
        engines: Engines,
        ports: Mapping[str, int],
        *,
        secret_key: str,
        report: Callable[[str], None],
        show: Show | None = None,
        inherit_all: bool = False,
        extra: Mapping[str, str] | None = None,
        health_ports: Mapping[str, int] | None = None,
        console: Console | None = None,
    ) -> None:
        """`ports` maps processes to ports; `extra` is added to the environment of every process and job.

        `health_ports` maps web processes to ports for health checks and metrics alone, which respond if all threads are busy.
        `console` is started too; it is not missed if it does not run.
        """
        self.engines = engines
        self.ports = ports
        self.health_ports = health_ports or {}
        self.addresses = {**urls(ports), **engines.environment()}
        self.console = console
        self.show = show or (lambda name, line: None)
        self._report = report

        def variables(service: str) -> dict[str, str]:
            own = environment(service, addresses=self.addresses, secret_key=secret_key, inherit_all=inherit_all)
            if console is None:
                return {**own, **(extra or {})}
            is_console = service == CONSOLE.service
            added = console.variables(ports, self.health_ports) if is_console else console.variables_of_services()
            return {**own, **(extra or {}), **added}

        self.runner = Runner(variables, self.show)

    async def start(self, jobs: tuple[Job, ...] = JOBS) -> None:
        """Start everything, and return when everything is ready. Raises NotReady, which states what is not."""
        started = {"postgres": asyncio.Event(), "kafka": asyncio.Event()}
        prepared = {service: asyncio.Event() for service in SERVICE_NAMES}
        for service in set(SERVICE_NAMES) - {job.service for job in jobs}:
            prepared[service].set()
        work = all_or_first_failure(
            self._engine("PostgreSQL is ready", self.engines.postgres.starting(), started["postgres"]),
            self._engine("Apache Kafka is ready", self.engines.kafka.starting(), started["kafka"]),
            *(self._job(job, started[job.needs], prepared[job.service]) for job in jobs),
            *(self._process(process, prepared) for process in PROCESSES),
            *([self._console(self.console)] if self.console else []),
        )
        await self.while_all_live(work)
        self._report(f"all {len(PROCESSES)} processes are ready")

    async def while_all_live(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, and cancel it if a process or an engine exits: then raises NotReady, which names it."""
        watch = asyncio.create_task(self._watch())
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({watch, working}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                await watch
            await working
        finally:
            watch.cancel()
            working.cancel()
            await asyncio.gather(watch, working, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self.engines.check()
            await self.runner.check()
            await asyncio.sleep(0.1)

    async def stop(self, *, grace: float = 9.0) -> None:
        """Stop everything gracefully: the processes, then the engines."""
        try:
            await self.runner.stop(grace=grace)
        finally:
            self.engines.stop()

    def abandon(self) -> None:
        """Stop everything immediately; for data that is no longer needed."""
        self.runner.kill()
        self.engines.abandon()

    async def _engine(self, what: str, starting: Steps, started: asyncio.Event) -> None:
        await drive_async(starting)
        self._report(what)
        started.set()

    async def _job(self, job: Job, started: asyncio.Event, prepared: asyncio.Event) -> None:
        await started.wait()
        await self.runner.job(job)
        done = [REPORTS[name] for command in job.commands if (name := command.split()[0]) in REPORTS]
        self._report(f"{job.service}: {' and '.join(done)}")
        prepared.set()

    async def _process(self, process: Process, prepared: Mapping[str, asyncio.Event]) -> None:
        # A consumer reads topics that other services create.
        waits_for = prepared if process.name.endswith("-consume") else [process.service]
        for service in waits_for:
            await prepared[service].wait()
        port, health_port = self.ports[process.name], self.health_ports.get(process.name)
        await self.runner.ready(await self.runner.start(process, port, health_port))

    async def _console(self, console: Console) -> None:
        try:
            await self.runner.ready(await self.runner.start(CONSOLE, console.port, required=False))
        except NotReady as error:
            self._report(f"the console does not run, and is not needed: {error}")
