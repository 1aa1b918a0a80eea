"""The declaration of a service in its `service.py`: everything about it that the rest of the repository derives from."""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

NAME = re.compile(r"[a-z][a-z0-9]{1,29}")
"""A name that is valid as a Python package, a database role, a host name and a Kubernetes label."""

ROUTE = re.compile(r"[a-z][a-z0-9-]{0,62}")
DATABASE = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""A name that PostgreSQL and a shell accept without quotes."""

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")

PAGES = frozenset({"asyncapi", "docs", "schema"})
"""Paths below `/api` that the gateway serves itself."""

INTERNAL = frozenset({"admin", "health", "metrics", "staff", "static"})
"""Paths of every service that clients must not reach: a route to one of them would publish it."""

MAINTENANCE = frozenset({"postgres", "template0", "template1"})
"""The databases that PostgreSQL creates itself."""

FOLDERS = frozenset({"bench", "chaos", "deploy", "docker", "docs", "platform", "settings", "tests", "var"})
"""The top-level folders that are not services."""

SKIPPED = frozenset({"build", "dist", "venv"})
"""Folders that pytest or ruff skip: the tests of such a service would never run."""

YAML = frozenset({"false", "no", "null", "off", "on", "true", "yes"})
"""Words that are not strings in compose and in Kubernetes manifests unless they are quoted."""

PACKAGES = frozenset({"chassis", "console", "embedded", "scaffold", "services"})
"""The packages in `platform/`."""

ENGINES = frozenset({"kafka", "postgres"})
"""The hosts in compose that are not services."""

PLATFORM = frozenset({"console", "monitor", "prometheus"})
"""The processes that belong to no service."""

Kind = Literal["web", "relay", "consume"]
OneOff = Literal["migrate", "topics"]

PORT_OFFSETS: dict[Kind, int] = {"web": 0, "relay": 10, "consume": 20}
"""Offsets from the service's port at which its processes listen in `make up`."""

PORTS = range(1024, 65536 - max(PORT_OFFSETS.values()))
"""The ports that a service may have."""


class BadDeclaration(SystemExit):
    """The declaration of a service is invalid; the message names the file and states what to change.

    It ends the program, as invalid configuration does: nothing can run without the declarations, and a traceback would
    hide the message.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """How a long-lived process of a service runs in production.

    `memory` is its usual and `memory_limit` its maximum memory, in MiB; `cpu` is in thousandths of a core.
    """

    replicas: int = 2
    cpu: int = 100
    memory: int = 128
    memory_limit: int = 384

    def problems(self) -> Iterator[str]:
        """The invalid values."""
        if problems := list(_wrong_types(self)):
            yield from problems
            return
        if min(self.replicas, self.cpu, self.memory) < 1:
            yield "replicas, cpu and memory must be 1 or more"
        if self.memory_limit < self.memory:
            yield f"memory_limit must be at least memory, which is {self.memory}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """An environment variable that only this service reads; its Django setting has the same name.

    Numbers can be limited by `minimum` and `maximum`, both inclusive.
    """

    name: str
    type: type[bool] | type[int] | type[float] | type[str]
    default: bool | float | str
    description: str
    minimum: float | None = None
    maximum: float | None = None

    def problems(self) -> Iterator[str]:
        """The invalid values."""
        if problems := list(_wrong_types(self, without=("type", "default"))):
            yield from problems
            return
        if self.type not in (bool, int, float, str):
            yield f"must have the type bool, int, float or str, not {self.type!r}"
            return
        if not VARIABLE.fullmatch(self.name):
            yield "must have a name of capital letters, digits and underscores"
        if self.type in (bool, str) and (self.minimum, self.maximum) != (None, None):
            yield "must have neither minimum nor maximum, which are for numbers"
        if isinstance(self.default, str) and re.search(r"[}\x00-\x1f\x7f]", self.default):
            yield f"must have a default without `}}` and control characters, which compose cannot represent, not {self.default!r}"
        # Exact types: True is an int in Python, but not a number here.
        accepted = (int, float) if self.type is float else (self.type,)
        if type(self.default) not in accepted:
            yield f"must have a default of type {self.type.__name__}, not {self.default!r}"
        elif isinstance(self.default, int | float) and not self._is_within(self.default):
            yield f"must have a default between its minimum and maximum, not {self.default!r}"

    def _is_within(self, value: float) -> bool:
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


WEB = Process(memory=192)
RELAY = Process(memory=96, memory_limit=256)
CONSUMER = Process()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service. Everything else, from its settings to its manifests, is derived from this.

    `port` is where its web process listens in `make up`; its relay listens at port + 10, its consumer at port + 20.
    `database` is the name of its database, if it has one; the database role and the alias have the name of the service.
    `route` is the first segment of its paths below `/api` at the gateway, or None if clients cannot reach it. `relay` and
    `consumer` are its workers, if any. `edge` is set for the gateway alone.
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
        for problem in _wrong_types(self):
            raise BadDeclaration(problem)
        if "\n" in self.summary:
            self._reject("summary", "must be one line")
        self._check_name()
        if self.port not in PORTS:
            self._reject(
                "port", f"must be between {PORTS.start} and {PORTS.stop - 1}: workers listen at port + 10 and port + 20"
            )
        if self.route is not None and (not ROUTE.fullmatch(self.route) or self.route in PAGES | INTERNAL):
            self._reject(
                "route",
                "must be at most 63 characters of a-z, 0-9 and -, start with a-z, and be neither a page of the gateway nor an"
                " internal path of every service",
            )
        if self.database is not None and (not DATABASE.fullmatch(self.database) or self.database in MAINTENANCE):
            self._reject(
                "database",
                "must be at most 63 characters of a-z, 0-9 and _, start with a-z, and not be a database of PostgreSQL itself",
            )
        if self.relay and not self.database:
            self._reject("relay", "needs a database: it sends the events in the outbox")
        self._check_edge()
        self._check_parts()

    def _check_name(self) -> None:
        if not NAME.fullmatch(self.name):
            self._reject("name", "must be 2 to 30 characters of a-z and 0-9, the first one not a digit")
        if self.name in sys.stdlib_module_names:
            self._reject("name", "must not be the name of a module of Python's standard library")
        if self.name in FOLDERS | PACKAGES:
            self._reject("name", "must not be the name of another folder of this repository")
        if self.name in SKIPPED:
            self._reject("name", "must not be the name of a folder that pytest or ruff skip")
        if self.name in YAML:
            self._reject("name", "must not be a word that YAML reads as a boolean or as null")
        if self.name in ENGINES:
            self._reject("name", "must not be the name of an engine")
        if self.name in PLATFORM:
            self._reject("name", "must not be the name of a process that belongs to no service")

    def _check_edge(self) -> None:
        for what in ("database", "route", "relay", "consumer"):
            if self.edge and getattr(self, what) is not None:
                self._reject(what, "must be omitted if `edge` is set")

    def _check_parts(self) -> None:
        parts: dict[str, Process | Setting] = {f"process {kind}": one for kind, one in self.processes().items()}
        for what, part in [*parts.items(), *((f"setting {one.name}", one) for one in self.settings)]:
            for problem in part.problems():
                raise BadDeclaration(f"{what} {problem}")

    def _reject(self, what: str, why: str) -> None:
        raise BadDeclaration(f"{what} {why}, not {getattr(self, what)!r}")

    @property
    def url_variable(self) -> str:
        """The variable with the URLs of the service's replicas, for the gateway."""
        return f"{self.name.upper()}_URL"

    @property
    def database_variable(self) -> str:
        """The variable with the URL of its database."""
        return f"{self.name.upper()}_DATABASE_URL"

    @property
    def direct_variable(self) -> str:
        """The variable with the URL of its database that bypasses a pooler."""
        return f"{self.name.upper()}_DATABASE_DIRECT_URL"

    def variables(self) -> tuple[str, ...]:
        """The variables with the addresses of the service and of its database."""
        database = (self.database_variable, self.direct_variable) if self.database else ()
        return (self.url_variable, *database)

    @property
    def uses_kafka(self) -> bool:
        """Whether it publishes or consumes events."""
        return bool(self.relay or self.consumer)

    @property
    def jobs(self) -> tuple[OneOff, ...]:
        """The management commands that run once before its processes start."""
        migrate: tuple[OneOff, ...] = ("migrate",) if self.database else ()
        topics: tuple[OneOff, ...] = ("topics",) if self.uses_kafka else ()
        return migrate + topics

    def processes(self) -> dict[Kind, Process]:
        """Its processes by kind, in the order in which they are listed everywhere."""
        kinds: dict[Kind, Process | None] = {"web": self.web, "relay": self.relay, "consume": self.consumer}
        return {kind: process for kind, process in kinds.items() if process is not None}

    def port_of(self, kind: Kind) -> int:
        """Where a process of the kind listens in `make up`."""
        return self.port + PORT_OFFSETS[kind]


def _wrong_types(declared: "Process | Setting | Service", without: tuple[str, ...] = ()) -> Iterator[str]:
    """The fields whose value does not have the annotated type."""
    for name, hint in inspect.get_annotations(type(declared)).items():
        value = getattr(declared, name)
        if name not in without and not _fits(value, hint):
            wanted = inspect.formatannotation(hint).replace(f"{__name__}.", "")
            yield f"{name} must be {wanted}, not {value!r}"


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is tuple:
        return type(value) is tuple and all(_fits(part, get_args(hint)[0]) for part in value)
    # Exact types: True is an int in Python, but not a port.
    kinds = get_args(hint) or (hint,)
    return type(value) in kinds or (float in kinds and type(value) is int)
