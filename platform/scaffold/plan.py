"""The validated parameters of `make service`, and the template context derived from them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from scaffold import names, topics
from scaffold.errors import ScaffoldError
from services import Service, discover
from services.declaration import PORT_OFFSETS, PORTS

DEFAULT_TOPIC = "order.created"
ANSWERS = {"yes": True, "no": False}
FIRST_PORT = 8001


@dataclass(frozen=True, slots=True)
class Plan:
    """A service to be written."""

    name: str
    on: topics.Consumed
    has_database: bool
    port: int

    @classmethod
    def of(cls, variables: Mapping[str, str], root: Path) -> "Plan":
        """Create a plan from NAME, ON and DATABASE. Raises ScaffoldError for invalid values."""
        name = variables.get("NAME", "")
        if not name:
            raise ScaffoldError("NAME is missing. For example: make service NAME=stock")
        database = variables.get("DATABASE") or "yes"
        if database not in ANSWERS:
            raise ScaffoldError(f"DATABASE={database}: must be yes or no")
        known = discover(root)
        names.check(name, known, root)
        on = topics.read(variables.get("ON") or DEFAULT_TOPIC, root)
        if on.thing == names.singular(name):
            raise ScaffoldError(
                f"NAME={name} and ON={on.topic}: both would have an id called {on.wire_name}. Choose another name."
            )
        return cls(name, on, ANSWERS[database], free_port(known))

    @property
    def thing(self) -> str:
        """The singular of the name."""
        return names.singular(self.name)

    @property
    def model(self) -> str:
        """The name of the model class."""
        return self.thing.capitalize()

    @property
    def config(self) -> str:
        """The name of the class in its `apps.py`."""
        return f"{self.name.capitalize()}Config"

    def context(self) -> dict[str, Any]:
        """The template context, besides `app_name`."""
        return {
            "thing": self.thing,
            "model": self.model,
            "config": self.config,
            "property": to_camel(f"{self.thing}_id"),
            "port": self.port,
            "database": f"{self.thing}db",
            "index": f"{self.name[:22]}_by_age",  # Django allows 30 characters
            "namespace": uuid.uuid5(uuid.NAMESPACE_DNS, self.name),
            "on": self.on,
        }


def free_port(known: tuple[Service, ...]) -> int:
    """The first port that is free, together with those of its workers. Raises ScaffoldError if there is none."""
    taken = {port for service in known for port in _ports(service.port)}
    for port in range(FIRST_PORT, PORTS.stop):
        if taken.isdisjoint(_ports(port)):
            return port
    raise ScaffoldError("no port is free")


def _ports(port: int) -> set[int]:
    return {port + offset for offset in PORT_OFFSETS.values()}
