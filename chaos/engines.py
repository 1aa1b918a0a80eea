"""One PostgreSQL server per service with a database, and Kafka with one listener per service, so that each can fail alone."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from chaos.proxy import Link, Links
from embedded import ports
from embedded.kafka import Kafka
from embedded.ports import HOST
from embedded.postgres import DATABASES, PostgreSQL
from embedded.processes import drive_async
from services import BEHIND_GATEWAY

CLIENTS = tuple(service.name for service in BEHIND_GATEWAY)
"""The services that use Kafka. Each has its own listener, advertised at the address of its link."""


@dataclass
class Engines:
    """The engines of the system. `databases` is keyed by service, `links` by name, such as `orders>kafka`."""

    databases: dict[str, PostgreSQL]
    kafka: Kafka
    links: dict[str, Link]

    async def start(self) -> None:
        """Start all of them, and return when they are ready."""
        for database in self.databases.values():
            await drive_async(database.starting())
        await drive_async(self.kafka.starting())

    def abandon(self) -> None:
        """Stop all of them as fast as possible."""
        self.kafka.abandon()
        for database in self.databases.values():
            database.abandon()

    def named(self) -> dict[str, PostgreSQL | Kafka]:
        """The engines by their names in the schedule."""
        return {"kafka": self.kafka} | {f"{service}-db": server for service, server in self.databases.items()}

    def address(self, service: str) -> str:
        """The direct URL of a service's database, which bypasses the links."""
        server = self.databases[service]
        return server.url(server.databases[0].name)

    def addresses(self, service: str) -> dict[str, str]:
        """The addresses of the links of a service, as its environment variables."""
        variables = {}
        if service in CLIENTS:
            variables["KAFKA_BOOTSTRAP_SERVERS"] = f"{HOST}:{self.links[f'{service}>kafka'].port}"
        if service in self.databases:
            direct = urlsplit(self.address(service))
            netloc = direct.netloc.replace(f":{direct.port}", f":{self.links[f'{service}>db'].port}")
            variables[f"{service.upper()}_DATABASE_URL"] = direct._replace(netloc=netloc).geturl()
        return variables


def choose(folder: Path, links: Links) -> Engines:
    """Create the engines, without starting them, and the links to them."""
    databases = {one.role: PostgreSQL(folder / one.name, databases=(one,)) for one in DATABASES}
    kafka = Kafka(folder / "kafka")
    assert kafka.port is not None
    inside = dict(zip(CLIENTS, ports.free(len(CLIENTS)), strict=True))
    outside = dict(zip(CLIENTS, ports.free(len(CLIENTS)), strict=True))
    _add_listeners(kafka, inside, outside)
    links_by_name = {f"{name}>kafka": links.add(f"{name}>kafka", outside[name], inside[name]) for name in CLIENTS}
    for service, server in databases.items():
        links_by_name[f"{service}>db"] = links.add(f"{service}>db", ports.free(1)[0], server.port)
    return Engines(databases, kafka, links_by_name)


def _add_listeners(kafka: Kafka, inside: dict[str, int], outside: dict[str, int]) -> None:
    """Give each client its own listener, so that Kafka always directs the client to its own link."""
    node = kafka.members[0]
    own = f"PLAINTEXT://{HOST}:{node.port}"
    names = {client: client.upper() for client in CLIENTS}
    kafka.options |= {
        "listeners": ",".join(
            [own, f"CONTROLLER://{HOST}:{node.controller_port}"]
            + [f"{names[client]}://{HOST}:{port}" for client, port in inside.items()]
        ),
        "advertised.listeners": ",".join([own] + [f"{names[c]}://{HOST}:{port}" for c, port in outside.items()]),
        "listener.security.protocol.map": ",".join(
            f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *names.values())
        ),
    }
