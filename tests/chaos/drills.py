"""Directed scenarios, each of which creates the moment in which a certain fault shows."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
from confluent_kafka import Producer

from chaos import evidence, load, settling
from chaos.accounting import account
from chaos.load import Load, Response
from chaos.storm import running
from chaos.system import Member, System
from chaos.topics import Reader
from embedded.processes import drive
from embedded.topics import EVENTS

SABOTAGE = Path(__file__).with_name("sabotage.py")
USERS = 8

Wrong = dict[tuple[str, str], set[str]]
"""The failed checks, by kind and name, with the items that they report."""


@dataclass
class Stage:
    """A running system, with the requests sent so far and the failures found so far."""

    system: System
    reader: Reader
    responses: list[Response] = field(default_factory=list)
    known: Wrong = field(default_factory=dict)
    numbers: count = field(default_factory=lambda: count(step=USERS))

    async def post_users(self) -> None:
        """Create USERS users. A busy system refuses requests with 503: as many are sent again."""
        created, deadline = 0, time.monotonic() + 60
        while created < USERS:
            assert time.monotonic() < deadline, f"{created} of {USERS} users were created"
            posts: Load = load.plan(
                0,
                users=USERS - created,
                orders=0,
                duration=0.5,
                gateways=self.system.gateways,
                first=next(self.numbers),
            )
            await posts.run()
            assert {response.status for response in posts.responses} <= {201, 503}
            self.responses += posts.responses
            created += len(posts.users)

    async def run(self, *drills: "Drill", fault: str = "", process: str = "") -> Wrong:
        """Run these drills, optionally with a fault in a process. Returns the new failures."""
        if fault:
            await self.replace(process, [sys.executable, str(SABOTAGE), fault, *self.system.members[process].argv[1:]])
        for drill in drills:
            await drill(self)
            await settling.settle(self.system.engines, self.reader, within=60)
        if fault:
            member = self.system.members[process]
            await self.replace(process, [sys.executable, *member.argv[3:]])
        return await asyncio.to_thread(self._new_failures)

    async def replace(self, name: str, argv: list[str]) -> None:
        """Replace a process by another one, and wait until it is ready."""
        member = self.system.members[name]
        assert await self.system.stop_member(member)
        member.argv = argv
        _start(member)
        await asyncio.to_thread(drive, member.wait_ready())

    def _new_failures(self) -> Wrong:
        found = evidence.collect(self.system.engines, self.reader, responses=self.responses)
        assert all(found.seen[topic] for topic in EVENTS)
        wrong = {(check.kind, check.what): set(check.wrong) for check in account(found)}
        new = {what: things - self.known.get(what, set()) for what, things in wrong.items()}
        self.known = wrong
        return {what: things for what, things in new.items() if things}


Drill = Callable[[Stage], Awaitable[None]]


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """The whole system, with one instance of each process."""
    async with running(replicas=1) as system:
        with contextlib.closing(Reader(system.engines.kafka.bootstrap_servers)) as reader:
            yield Stage(system, reader)


async def events_taken_while_the_database_hangs(stage: Stage) -> None:
    """The consumer has received events but cannot process them; then it is killed."""
    there = await asyncio.to_thread(_users_on_topic, stage.reader)
    stage.system.links["orders>db"].hang()
    await stage.post_users()
    await _until(lambda: _users_on_topic(stage.reader) >= there + USERS and not stage.reader.lag())
    await _kill_and_restart(stage.system, "orders-consume-0", heal="orders>db")


async def rows_taken_while_the_broker_is_away(stage: Stage) -> None:
    """The relay has fetched rows but cannot send them; then it is killed."""
    stage.system.links["users>kafka"].cut()
    await stage.post_users()
    await _until(lambda: _unsent(stage.system.engines.address("users")) == 0)
    await _kill_and_restart(stage.system, "users-relay-0", heal="users>kafka")


async def every_event_comes_twice(stage: Stage) -> None:
    """All records on the topics are delivered again unchanged; payments publishes its events again."""
    await stage.post_users()
    await settling.settle(stage.system.engines, stage.reader, within=60)
    producer = Producer(
        {"bootstrap.servers": stage.system.engines.kafka.bootstrap_servers, "log_level": 0, "acks": "all"}
    )
    for topic in ("user.created", "order.created"):
        for record in list(stage.reader.seen[topic]):
            producer.produce(topic, record.value, record.key, record.partition, headers=list(record.headers))
    assert producer.flush(10) == 0


async def _kill_and_restart(system: System, name: str, *, heal: str) -> None:
    member = system.members[name]
    member.held = True
    await asyncio.to_thread(member.child.kill9)
    system.links[heal].heal()
    _start(member)


def _start(member: Member) -> None:
    member.spawn()
    member.held = False


async def _until(condition: Callable[[], bool], within: float = 3.0) -> None:
    """Wait for a condition that only a faulty system meets; otherwise wait until the timeout."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(0.05)


def _users_on_topic(reader: Reader) -> int:
    reader.catch_up()
    return len({record.key for record in reader.seen["user.created"]})


def _unsent(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT count(*) FROM outbox WHERE sent_at IS NULL").fetchone()[0]
