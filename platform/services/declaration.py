"""What a service declares in its `service.py`: everything that the repository knows of it and that is not its code."""

import re
from dataclasses import dataclass, field
from typing import Literal

NAME = re.compile(r"[a-z][a-z0-9]{1,29}")
"""A Python package, a database role, a host name and a label in Kubernetes: what all of these accept."""

Kind = Literal["web", "relay", "consume"]


class BadDeclaration(ValueError):
    """A service declares what cannot be; the message names the service and says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """How a long-lived process of a service runs in production.

    `memory` is what it usually takes and `memory_limit` what it may take at most, in MiB; `cpu` is in thousandths of a core.
    """

    replicas: int = 2
    cpu: int = 100
    memory: int = 128
    memory_limit: int = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A variable of the environment that only this service reads; its Django setting has the same name.

    A number may be bounded by `minimum` and `maximum`, both inclusive.
    """

    name: str
    type: type[bool] | type[int] | type[float] | type[str]
    default: bool | float | str
    description: str
    minimum: float | None = None
    maximum: float | None = None


WEB = Process(memory=192)
RELAY = Process(memory=96, memory_limit=256)
CONSUMER = Process()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service. Everything else, from its settings to its manifests, is derived from this.

    `port` is where its web process listens in `make up`; its relay listens 10 above, its consumer 20 above. With a `database`
    (the name of it) the service has a database role, an alias and an admin; the alias and the role are its `name`. `route` is
    the first segment of its paths below `/api` at the gateway; None where clients do not reach it. `relay` and `consumer` are
    its workers, None where it has none. `edge` is the gateway alone: it is reached by clients and has no worker.
    """

    name: str
    summary: str
    port: int
    database: str | None = None
    route: str | None = None
    web: Process = WEB
    relay: Process | None = None
    consumer: Process | None = None
    settings: tuple[Setting, ...] = field(default=())
    edge: bool = False

    def __post_init__(self) -> None:
        """Raises BadDeclaration."""
        if not NAME.fullmatch(self.name):
            self._refuse("name", "must be 2 to 30 lower-case letters and digits, a letter first")
        if not 1024 <= self.port <= 65535 - 20:
            self._refuse("port", "must be between 1024 and 65515: workers listen 10 and 20 above it")
        if self.relay and not self.database:
            self._refuse("relay", "needs a database: it sends what the outbox holds")

    def _refuse(self, what: str, why: str) -> None:
        raise BadDeclaration(f"{self.name}/service.py: {what} {why}, not {getattr(self, what)!r}")

    @property
    def url_variable(self) -> str:
        """The variable that tells the gateway where the service's replicas are."""
        return f"{self.name.upper()}_URL"

    @property
    def database_variable(self) -> str:
        """The variable with the URL of its database."""
        return f"{self.name.upper()}_DATABASE_URL"

    @property
    def direct_variable(self) -> str:
        """The variable with the URL of its database past a pooler."""
        return f"{self.name.upper()}_DATABASE_DIRECT_URL"

    @property
    def uses_kafka(self) -> bool:
        """Whether it publishes or consumes events."""
        return bool(self.relay or self.consumer)

    def processes(self) -> dict[Kind, Process]:
        """Its processes by kind, in the order in which they are listed everywhere."""
        kinds: dict[Kind, Process | None] = {"web": self.web, "relay": self.relay, "consume": self.consumer}
        return {kind: process for kind, process in kinds.items() if process is not None}

    def port_of(self, kind: Kind) -> int:
        """Where a process of the kind listens in `make up`."""
        return self.port + {"web": 0, "relay": 10, "consume": 20}[kind]
