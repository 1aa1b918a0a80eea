"""`make demo`: a system of its own on free ports with throw-away data, the story once, and nothing left behind."""

import asyncio
import secrets
import time
from collections.abc import Mapping

from embedded import cache, engines, jars, ports, postgres
from embedded.display import BOLD, DIM, GREEN, paint, say
from embedded.observer import Observer
from embedded.processes import Steps, drive_async
from embedded.runner import Runner, all_or_first_failure
from embedded.story import Step, Story
from embedded.system import JOBS, PROCESSES, SERVICES, Job, Process, environment, urls

DONE_BY = {"migrate": "database migrated", "topics": "topics made"}


def prepare() -> None:
    """What only the first run has to fetch or copy."""
    jars.fetch()
    postgres.prepare()


async def run() -> None:
    """Play the story and show it. Raises EmbeddedError, which says what failed, when anything was not as promised."""
    with cache.throwaway("demo") as folder:
        stand = Stand(engines.choose(folder))
        try:
            await stand.start()
            await stand.play()
        finally:
            stand.end()


class Stand:
    """The engines and the processes of one demo."""

    def __init__(self, engines: engines.Engines) -> None:
        self._engines = engines
        self._begun = time.monotonic()
        numbers = ports.free(len(PROCESSES))
        self._ports = {process.name: port for process, port in zip(PROCESSES, numbers, strict=True)}
        self._addresses = {**engines.environment(), **urls(self._ports)}
        secret = secrets.token_urlsafe(48)
        self._runner = Runner(lambda service: environment(service, addresses=self._addresses, secret_key=secret))

    async def start(self) -> None:
        """Start everything, each part as soon as what it needs is there."""
        say(paint("Starting the system, with data that is thrown away", BOLD))
        postgres_serves, kafka_serves = asyncio.Event(), asyncio.Event()
        serves = {"postgres": postgres_serves, "kafka": kafka_serves}
        await all_or_first_failure(
            self._engine("PostgreSQL serves", self._engines.postgres.starting(), postgres_serves),
            self._engine("Apache Kafka serves", self._engines.kafka.starting(), kafka_serves),
            self._processes(serves),
        )

    async def play(self) -> None:
        """The story, beside a watch over the processes: the first of the two to fail ends it."""
        watch = asyncio.create_task(self._runner.first_death())
        story = asyncio.create_task(self._story())
        try:
            await asyncio.wait({watch, story}, return_when=asyncio.FIRST_COMPLETED)
            if not story.done():
                await watch
            await story
        finally:
            for task in (watch, story):
                task.cancel()

    def end(self) -> None:
        """End everything at once; nobody will need the data."""
        self._runner.kill()
        self._engines.abandon()

    async def _engine(self, what: str, starting: Steps, serves: asyncio.Event) -> None:
        await drive_async(starting)
        self._done(what)
        serves.set()

    async def _processes(self, serves: Mapping[str, asyncio.Event]) -> None:
        prepared = {service: asyncio.Event() for service in SERVICES}
        for service in set(SERVICES) - {job.service for job in JOBS}:
            prepared[service].set()
        await all_or_first_failure(
            *(self._job(job, serves[job.needs], prepared[job.service]) for job in JOBS),
            *(self._process(process, prepared) for process in PROCESSES),
        )
        self._done(f"all {len(PROCESSES)} processes are ready")

    async def _job(self, job: Job, serves: asyncio.Event, prepared: asyncio.Event) -> None:
        await serves.wait()
        await self._runner.job(job)
        self._done(f"{job.service}: {' and '.join(DONE_BY[command.split()[0]] for command in job.commands)}")
        prepared.set()

    async def _process(self, process: Process, prepared: Mapping[str, asyncio.Event]) -> None:
        # A consumer reads topics that other services make.
        waits_for = prepared if process.name.endswith("-consume") else [process.service]
        for service in waits_for:
            await prepared[service].wait()
        await self._runner.ready(await self._runner.start(process, self._ports[process.name]))

    async def _story(self) -> None:
        with Observer(self._engines.kafka.bootstrap_servers) as observer:
            story = Story(self._addresses["GATEWAY_URL"], observer, _show)
            say()
            say(paint("A new user, followed through the system", BOLD))
            await story.play()
            say(f"  every step belongs to request {story.request_id}")
            say(f"  and to trace                  {story.trace_id}")
            say(f"  order {story.order['id']} of user {story.user['id']} is {story.order['status']}")
            self._done("the first order has come to its end")
            say()
            say(paint("The same event a second time", BOLD))
            for line in await story.deliver_again():
                say(f"  {line}")
            say()
            say(paint("All as promised.", BOLD, GREEN))

    def _done(self, what: str) -> None:
        say(f"  {time.monotonic() - self._begun:5.1f} s  {what}")


def _show(step: Step) -> None:
    say(f"  {step.since * 1000:6.0f} ms  {step.service:<9} {step.what}")
    say(paint(f"{'':21}request {step.request_id}  trace {step.trace_id}", DIM))
