"""The system with everything it depends on behind a link of its own, and with credentials for Kafka: so each can fail alone."""

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
"""A statement that takes longer has failed; short, as tests wait for it."""

OWN_NAMES = (
    'mount --bind "$NAMES/hosts" /etc/hosts && mount --bind "$NAMES/resolv.conf" /etc/resolv.conf && exec "$@"',
    "sh",
)
WITH_OWN_NAMES = ("unshare", "--map-root-user", "--mount", "sh", "-c", *OWN_NAMES)


class Names:
    """The names that a process can look up: those of a file of the test's own, and no name server is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # nobody listens there
        self.know()

    def know(self, *names: str) -> None:
        """From now on these are this machine, and all others are unknown."""
        (self.folder / "hosts").write_text("".join(f"{HOST} {name}\n" for name in names))

    def why_not(self) -> str:
        """What this machine says where a process may not have names of its own; empty where it may."""
        tried = subprocess.run(
            [*WITH_OWN_NAMES, "true"],
            env=os.environ | {"NAMES": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        return tried.stderr.strip() or f"status {tried.returncode}" if tried.returncode else ""


class LinkedEngines:
    """A PostgreSQL for each service with a database, and a Kafka that lets each service in by its own password."""

    def __init__(self, folder: Path, links: Links) -> None:
        self._chosen = linked_engines.choose(folder, links)
        self._folder = folder
        self._passwords = {client: secrets.token_urlsafe(12) for client in CLIENTS}
        self.kafka.options |= _letting_in_by_password()

    @property
    def kafka(self) -> Kafka:
        return self._chosen.kafka

    @property
    def links(self) -> Mapping[str, Link]:
        return self._chosen.links

    def server(self, service: str) -> PostgreSQL:
        """The PostgreSQL of a service."""
        return self._chosen.databases[service]

    def start(self) -> None:
        """Start all; returns when they serve."""
        drive(self.kafka.starting(), *(server.starting() for server in self._chosen.databases.values()))
        for client, password in self._passwords.items():
            self.let_in(client, password)

    def abandon(self) -> None:
        self._chosen.abandon()

    def environment(self, service: str = "") -> dict[str, str]:
        """What a service is told."""
        if not service:  # what all are told: it is the same but for Kafka's address
            return self._chosen.addresses("users") | self._chosen.addresses("orders")
        login = {
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_USERNAME": service,
            "KAFKA_SASL_PASSWORD": self._passwords.get(service, ""),
        }
        return self._chosen.addresses(service) | login

    # --- what a person in charge of them does ---

    def administer(self, service: str, *statements: str) -> None:
        """Have the superuser say something to the PostgreSQL of a service."""
        with self.superuser(service) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def superuser(self, service: str) -> psycopg.Connection[Any]:
        """A connection to a service's database that may do anything, also while the server is read-only."""
        server = self.server(service)
        url = server.url(server.databases[0].name, "postgres")
        return psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off")

    def succeed(self, service: str) -> None:
        """Let another server, with the same data, take the place and the address of a PostgreSQL that was stopped."""
        old = self.server(service)
        new = PostgreSQL(self._folder / f"{service}-successor", databases=old.databases, passwords=old.passwords)
        shutil.copytree(old.folder, new.folder)
        for path in [new.folder, *new.folder.rglob("*")]:
            there = (old.folder / path.relative_to(new.folder)).stat()
            os.chown(path, there.st_uid, there.st_gid)
        new.start()
        self._chosen.databases[service] = new
        self.links[f"{service}>db"].redirect(new.port)

    def let_in(self, client: str, password: str = "") -> None:
        """Have Kafka know a client by this password; by default by the one that the client has."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(client, info, (password or self._passwords[client]).encode())
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers, "log_level": 0})
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(60)


def _letting_in_by_password() -> dict[str, str]:
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"} | {c.upper(): "SASL_PLAINTEXT" for c in CLIENTS}
    options = {"listener.security.protocol.map": ",".join(map(":".join, protocols.items()))}
    for client in CLIENTS:
        options[f"listener.name.{client}.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
        options[f"listener.name.{client}.scram-sha-512.sasl.jaas.config"] = module
    return options


class LinkedHarness(Harness):
    """The processes on such engines. A process that is told NAMES, a folder of `Names`, knows these and no other."""

    engines: LinkedEngines

    def database(self, name: str) -> psycopg.Connection[Any]:
        return self.engines.superuser({"userdb": "users", "orderdb": "orders"}[name])

    def _environment(self, service: str) -> dict[str, str]:
        limit = {"DATABASE_STATEMENT_TIMEOUT_SECONDS": str(STATEMENT_SECONDS)}
        return super()._environment(service) | self.engines.environment(service) | limit

    def _child(self, name: str, argv: list[str], variables: Mapping[str, str]) -> Child:
        return super()._child(name, [*WITH_OWN_NAMES, *argv] if "NAMES" in variables else argv, variables)


@contextmanager
def linked_harness() -> Iterator[LinkedHarness]:
    """Such a system, whole, while the body runs."""
    with cache.temporary_folder("linked") as folder, Links() as links:
        engines = LinkedEngines(folder, links)
        harness = None
        try:
            engines.start()
            harness = LinkedHarness(engines, folder)  # type: ignore[arg-type]
            harness.prepare()
            harness.whole()
            yield harness
        finally:
            if harness is not None:
                harness.close()
            engines.abandon()
