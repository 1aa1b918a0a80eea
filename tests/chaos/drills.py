"""Small directed storms: each brings about the one moment in which a fault of its kind must show."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import psycopg
from confluent_kafka import Producer

from chaos import evidence, load, settling
from chaos.accounting import Check, account
from chaos.storm import running
from chaos.system import System
from chaos.topics import EVENTS, Reader

SABOTAGE = Path(__file__).with_name("sabotage.py")
USERS = 8

Drill = Callable[[System, Reader, load.Load], Awaitable[None]]


async def events_taken_while_the_database_hangs(system: System, reader: Reader, posts: load.Load) -> None:
    """The consumer has received events and cannot work on them; then it is killed."""
    system.links["orders>db"].hang()
    await posts.run()
    await _until(lambda: _on_topic(reader, USERS) and not reader.lag())
    await _kill_and_restart(system, "orders-consume-0", heal="orders>db")


async def rows_taken_while_the_broker_is_away(system: System, reader: Reader, posts: load.Load) -> None:
    """The relay has taken rows and cannot send them; then it is killed."""
    system.links["users>kafka"].cut()
    await posts.run()
    unsent = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
    await _until(lambda: _ask(system.engines.address("users"), unsent) == 0)
    await _kill_and_restart(system, "users-relay-0", heal="users>kafka")


async def every_event_comes_twice(system: System, reader: Reader, posts: load.Load) -> None:
    """What stands on the topics is delivered once more, byte for byte."""
    await posts.run()
    await settling.settle(system.engines, reader, within=15)
    producer = Producer({"bootstrap.servers": system.engines.kafka.bootstrap_servers, "log_level": 0, "acks": "all"})
    for topic in ("user.created", "payment.completed"):
        for record in list(reader.seen[topic]):
            producer.produce(topic, record.value, record.key, record.partition, headers=list(record.headers))
    assert producer.flush(10) == 0


async def run(*drills: Drill, fault: str = "", before: str = "") -> list[Check]:
    """The account of a system that went through these drills; its workers have the fault. `before`: SQL in orders' database."""

    def alter(name: str, argv: Sequence[str]) -> list[str]:
        return [argv[0], str(SABOTAGE), fault, *argv[1:]] if fault and argv[1] == "manage.py" else list(argv)

    answers = []
    async with running(alter=alter, replicas=1) as system:
        with contextlib.closing(Reader(system.engines.kafka.bootstrap_servers)) as reader:
            if before:
                _do(system.engines.address("orders"), before)
            for number, drill in enumerate(drills):
                posts = load.plan(
                    number, users=USERS, orders=0, duration=0.5, gateways=system.gateways, first=number * USERS
                )
                await drill(system, reader, posts)
                answers += posts.answers
                await settling.settle(system.engines, reader, within=20)
            found = evidence.collect(system.engines, reader, answers=answers)
    assert [answer.status for answer in answers] == [201] * USERS * len(drills)
    assert all(found.seen[topic] for topic in EVENTS)
    return account(found)


async def _kill_and_restart(system: System, name: str, *, heal: str) -> None:
    member = system.members[name]
    member.held = True
    await asyncio.to_thread(member.child.kill9)
    system.links[heal].heal()
    member.spawn()
    member.held = False


async def _until(condition: Callable[[], bool], within: float = 3.0) -> None:
    """Wait for what only a faulty system does; a sound one lets the time pass."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(0.05)


def _on_topic(reader: Reader, count: int) -> bool:
    reader.catch_up()
    return len(reader.seen["user.created"]) >= count


def _ask(url: str, query: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchone()[0]


def _do(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
