"""The events of all services: published events, readers and contracts."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from chassis.events.event import Event
from services import SERVICES

MODULES: dict[str, ModuleType] = {
    service.name: import_module(f"{service.name}.events") for service in SERVICES if find_spec(f"{service.name}.events")
}
PUBLISHED: list[type[Event]] = [event for module in MODULES.values() for event in module.PUBLISHES]


def contracts() -> list[tuple[Event, dict[str, Any]]]:
    """Each kind of event with its payload on the wire, from CONTRACTS in `tests/SERVICE/contract.py`."""
    named = [f"tests.{name}.contract" for name in MODULES]
    return [contract for module in named if find_spec(module) for contract in import_module(module).CONTRACTS]


def readers() -> list[type[Event]]:
    """The models of all consumers."""
    models = [(module, model) for module in MODULES.values() for model in vars(module).values()]
    return [model for module, model in models if _is_event(model) and model not in module.PUBLISHES]


def _is_event(model: object) -> bool:
    return isinstance(model, type) and issubclass(model, Event) and model is not Event
