"""PostgreSQL and Kafka together, started side by side; by themselves as `make engines`."""

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
    """What the system stands on."""

    postgres: PostgreSQL
    kafka: Kafka

    def start(self) -> None:
        """Start both, and return when both serve. When one fails, the other is ended too."""
        try:
            drive(self.kafka.starting(), self.postgres.starting())
        except BaseException:
            self.abandon()
            raise

    def stop(self) -> None:
        """End both gracefully."""
        try:
            self.kafka.stop()
        finally:
            self.postgres.stop()

    def abandon(self) -> None:
        """End both as fast as it goes; for data that nobody will need."""
        try:
            self.kafka.abandon()
        finally:
            self.postgres.abandon()

    def check(self) -> None:
        """Raises NotReady, with its last lines, when one that was started has died."""
        for child in (self.postgres.process, *(node.process for node in self.kafka.members)):
            if child is not None:
                child.check()

    def environment(self) -> dict[str, str]:
        """The variables by which the services find them."""
        return {
            **{one.database_variable: self.postgres.url(one.database) for one in SERVICES if one.database},
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
        }


def prepare() -> None:
    """What only the first run on a machine does: fetch the broker's jars, prepare its classes, copy PostgreSQL's programs."""
    jars.fetch()
    postgres.prepare()
    archive.make()


async def run() -> int:
    """`make engines`: run both until cancelled, having said where they are in a form that a shell can source."""
    with cache.throwaway("engines") as folder:
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
def throwaway(name: str, *, nodes: int = 1, may_create_databases: bool = False) -> Iterator[Engines]:
    """Both on free ports with data that is deleted at the end; running inside the block."""
    with cache.throwaway(name) as folder:
        engines = choose(folder, nodes=nodes, may_create_databases=may_create_databases)
        engines.start()
        try:
            yield engines
        finally:
            engines.abandon()


def choose(folder: Path, *, nodes: int = 1, may_create_databases: bool = False) -> Engines:
    """Both, not started yet: their ports and passwords are chosen, so that their addresses are known."""
    return Engines(
        PostgreSQL(folder / "postgres", may_create_databases=may_create_databases), Kafka(folder / "kafka", nodes=nodes)
    )
