"""PostgreSQL and Kafka together, started side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded import cache
from embedded.kafka import Kafka
from embedded.postgres import PostgreSQL
from embedded.processes import drive


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

    def environment(self) -> dict[str, str]:
        """The variables by which the services find them."""
        return {
            "USERS_DATABASE_URL": self.postgres.url("userdb"),
            "ORDERS_DATABASE_URL": self.postgres.url("orderdb"),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
        }


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
