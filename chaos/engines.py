"""Two PostgreSQL servers, one a service, and Kafka with a listener for each service: so each can be broken alone."""

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
"""The services that talk to Kafka; each has a listener of its own, advertised at the address of its link."""


@dataclass
class Engines:
    """What the system stands on. `databases` are by service; links by the name of what they lead to, from whom."""

    databases: dict[str, PostgreSQL]
    kafka: Kafka
    links: dict[str, Link]

    async def start(self) -> None:
        """Start all of them; returns when they serve."""
        for database in self.databases.values():
            await drive_async(database.starting())
        await drive_async(self.kafka.starting())

    def abandon(self) -> None:
        """End them as fast as it goes."""
        self.kafka.abandon()
        for database in self.databases.values():
            database.abandon()

    def named(self) -> dict[str, PostgreSQL | Kafka]:
        """Each engine by the name that the schedule has for it."""
        return {"kafka": self.kafka} | {f"{service}-db": server for service, server in self.databases.items()}

    def address(self, service: str) -> str:
        """The URL of a service's database for ourselves, past all links."""
        server = self.databases[service]
        return server.url(server.databases[0].name)

    def addresses(self, service: str) -> dict[str, str]:
        """What a service is told: the addresses of its own links."""
        told = {}
        if service in CLIENTS:
            told["KAFKA_BOOTSTRAP_SERVERS"] = f"{HOST}:{self.links[f'{service}>kafka'].port}"
        if service in self.databases:
            direct = urlsplit(self.address(service))
            place = direct.netloc.replace(f":{direct.port}", f":{self.links[f'{service}>db'].port}")
            told[f"{service.upper()}_DATABASE_URL"] = direct._replace(netloc=place).geturl()
        return told


def choose(folder: Path, links: Links) -> Engines:
    """All of them, not started yet, and the links that lead to them."""
    databases = {one.role: PostgreSQL(folder / one.name, databases=(one,)) for one in DATABASES}
    kafka = Kafka(folder / "kafka")
    assert kafka.port is not None
    inside = dict(zip(CLIENTS, ports.free(len(CLIENTS)), strict=True))
    outside = dict(zip(CLIENTS, ports.free(len(CLIENTS)), strict=True))
    _listen(kafka, inside, outside)
    made = {f"{name}>kafka": links.add(f"{name}>kafka", outside[name], inside[name]) for name in CLIENTS}
    for service, server in databases.items():
        made[f"{service}>db"] = links.add(f"{service}>db", ports.free(1)[0], server.port)
    return Engines(databases, kafka, made)


def _listen(kafka: Kafka, inside: dict[str, int], outside: dict[str, int]) -> None:
    """Give each client a listener: a client is sent back to the link that it came through, never past it."""
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
