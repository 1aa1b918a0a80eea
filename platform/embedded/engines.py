"""PostgreSQL and Kafka, started concurrently; `make engines` runs them alone."""

import asyncio
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded import archive, cache, jars, postgres
from embedded.display import say
from embedded.kafka import Kafka
from embedded.postgres import PostgreSQL
from embedded.processes import drive, drive_async
from services import SERVICES


@dataclass
class Engines:
    """The PostgreSQL server and the Kafka cluster of one system."""

    postgres: PostgreSQL
    kafka: Kafka

    def start(self) -> None:
        """Start both, and return when both are ready. If one fails, the other is stopped too."""
        try:
            drive(self.kafka.starting(), self.postgres.starting())
        except BaseException:
            self.abandon()
            raise

    def stop(self) -> None:
        """Stop both gracefully."""
        try:
            self.kafka.stop()
        finally:
            self.postgres.stop()

    def abandon(self) -> None:
        """Stop both as fast as possible; for data that is no longer needed."""
        try:
            self.kafka.abandon()
        finally:
            self.postgres.abandon()

    def check(self) -> None:
        """Raises NotReady, with the last log lines, if one that was started has exited."""
        for child in (self.postgres.process, *(node.process for node in self.kafka.members)):
            if child is not None:
                child.check()

    def environment(self) -> dict[str, str]:
        """The environment variables with their addresses."""
        return {
            **{one.database_variable: self.postgres.url(one.database) for one in SERVICES if one.database},
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
        }


def prepare() -> None:
    """Do the work of the first run on a machine: fetch the broker's jars, create the class archive, copy PostgreSQL's programs."""
    jars.fetch()
    postgres.prepare()
    archive.make()


async def run() -> int:
    """`make engines`: print the addresses in a form that a shell can source, and run both until cancelled."""
    with cache.temporary_folder("engines") as folder:
        engines = choose(folder, may_create_databases=True)
        try:
            await asyncio.gather(drive_async(engines.kafka.starting()), drive_async(engines.postgres.starting()))
            for name, value in engines.environment().items():
                say(f"{name}={shlex.quote(value)}")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 0
        finally:
            engines.abandon()
    return 0


@contextmanager
def temporary(name: str, *, nodes: int = 1, may_create_databases: bool = False) -> Iterator[Engines]:
    """Run both within the block, on free ports with temporary data."""
    with cache.temporary_folder(name) as folder:
        engines = choose(folder, nodes=nodes, may_create_databases=may_create_databases)
        engines.start()
        try:
            yield engines
        finally:
            engines.abandon()


def choose(folder: Path, *, nodes: int = 1, may_create_databases: bool = False) -> Engines:
    """Create both without starting them. Ports and passwords are chosen, so the addresses are known."""
    return Engines(
        PostgreSQL(folder / "postgres", may_create_databases=may_create_databases), Kafka(folder / "kafka", nodes=nodes)
    )
