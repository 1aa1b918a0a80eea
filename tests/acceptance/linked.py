"""The system with a link to each of its dependencies, and with Kafka credentials, so that each can fail alone."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from chaos import engines as linked_engines
from chaos.engines import CLIENTS
from chaos.proxy import Link, Links
from embedded import cache
from embedded.kafka import Kafka
from embedded.ports import HOST
from embedded.postgres import PostgreSQL
from embedded.processes import Child, drive
from tests.acceptance.harness import Harness

STATEMENT_SECONDS = 2
"""The statement timeout; short, since tests wait for it."""

OWN_NAMES = (
    'mount --bind "$NAMES/hosts" /etc/hosts && mount --bind "$NAMES/resolv.conf" /etc/resolv.conf && exec "$@"',
    "sh",
)
WITH_OWN_NAMES = ("unshare", "--map-root-user", "--mount", "sh", "-c", *OWN_NAMES)


class Names:
    """The host names that a process can resolve: those of a file, without a name server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # nothing listens there
        self.set()

    def set(self, *names: str) -> None:
        """Resolve these names to this machine, and no others."""
        (self.folder / "hosts").write_text("".join(f"{HOST} {name}\n" for name in names))

    def unavailable_because(self) -> str:
        """Why this machine does not support this; empty if it does."""
        tried = subprocess.run(
            [*WITH_OWN_NAMES, "true"],
            env=os.environ | {"NAMES": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        return tried.stderr.strip() or f"status {tried.returncode}" if tried.returncode else ""


class LinkedEngines:
    """One PostgreSQL per service with a database, and a Kafka with a password per service."""

    def __init__(self, folder: Path, links: Links) -> None:
        self._chosen = linked_engines.choose(folder, links)
        self._folder = folder
        self._passwords = {client: secrets.token_urlsafe(12) for client in CLIENTS}
        self.kafka.options |= _password_options()

    @property
    def kafka(self) -> Kafka:
        return self._chosen.kafka

    @property
    def links(self) -> Mapping[str, Link]:
        return self._chosen.links

    def server(self, service: str) -> PostgreSQL:
        """The PostgreSQL server of a service."""
        return self._chosen.databases[service]

    def start(self) -> None:
        """Start all engines, and return when they are ready."""
        drive(self.kafka.starting(), *(server.starting() for server in self._chosen.databases.values()))
        for client, password in self._passwords.items():
            self.set_password(client, password)

    def abandon(self) -> None:
        self._chosen.abandon()

    def environment(self, service: str = "") -> dict[str, str]:
        """The environment variables of a service."""
        if not service:  # for all services: the same, except Kafka's address
            return self._chosen.addresses("users") | self._chosen.addresses("orders")
        login = {
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_USERNAME": service,
            "KAFKA_SASL_PASSWORD": self._passwords.get(service, ""),
        }
        return self._chosen.addresses(service) | login

    # --- operations ---

    def administer(self, service: str, *statements: str) -> None:
        """Execute statements as superuser on the PostgreSQL of a service."""
        with self.superuser(service) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def superuser(self, service: str) -> psycopg.Connection[Any]:
        """A superuser connection to a service's database, which can write even if the server is read-only."""
        server = self.server(service)
        url = server.url(server.databases[0].name, "postgres")
        return psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off")

    def fail_over(self, service: str) -> None:
        """Replace a stopped PostgreSQL by another server with the same data, at the same address."""
        old = self.server(service)
        new = PostgreSQL(self._folder / f"{service}-successor", databases=old.databases, passwords=old.passwords)
        shutil.copytree(old.folder, new.folder)
        for path in [new.folder, *new.folder.rglob("*")]:
            there = (old.folder / path.relative_to(new.folder)).stat()
            os.chown(path, there.st_uid, there.st_gid)
        new.start()
        self._chosen.databases[service] = new
        self.links[f"{service}>db"].redirect(new.port)

    def set_password(self, client: str, password: str = "") -> None:
        """Set the password of a client in Kafka, by default to the one that the client uses."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(client, info, (password or self._passwords[client]).encode())
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers, "log_level": 0})
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(60)


def _password_options() -> dict[str, str]:
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"} | {c.upper(): "SASL_PLAINTEXT" for c in CLIENTS}
    options = {"listener.security.protocol.map": ",".join(map(":".join, protocols.items()))}
    for client in CLIENTS:
        options[f"listener.name.{client}.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
        options[f"listener.name.{client}.scram-sha-512.sasl.jaas.config"] = module
    return options


class LinkedHarness(Harness):
    """The processes on these engines. With the variable NAMES, a folder of `Names`, a process resolves only these names."""

    engines: LinkedEngines

    def database(self, name: str) -> psycopg.Connection[Any]:
        return self.engines.superuser({"userdb": "users", "orderdb": "orders"}[name])

    def _environment(self, service: str) -> dict[str, str]:
        limit = {"DATABASE_STATEMENT_TIMEOUT_SECONDS": str(STATEMENT_SECONDS)}
        return super()._environment(service) | self.engines.environment(service) | limit

    def _child(self, name: str, argv: list[str], variables: Mapping[str, str], *, fresh: bool = False) -> Child:
        argv = [*WITH_OWN_NAMES, *argv] if "NAMES" in variables else argv
        return super()._child(name, argv, variables, fresh=fresh)


@contextmanager
def linked_harness() -> Iterator[LinkedHarness]:
    """Run such a system within the block."""
    with cache.temporary_folder("linked") as folder, Links() as links:
        engines = LinkedEngines(folder, links)
        harness = None
        try:
            engines.start()
            harness = LinkedHarness(engines, folder)  # type: ignore[arg-type]
            harness.prepare()
            harness.restore()
            yield harness
        finally:
            if harness is not None:
                harness.close()
            engines.abandon()
