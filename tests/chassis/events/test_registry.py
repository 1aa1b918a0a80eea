"""The registry of handlers: one per topic and service."""

from types import ModuleType

import pytest

from chassis.events import registry
from chassis.events.event import Event


class Happened(Event):
    topic = "thing.happened"


@pytest.fixture(autouse=True)
def services(monkeypatch):
    """Two services, the name of one the beginning of the other's."""
    monkeypatch.setattr(registry, "_handlers", {})
    monkeypatch.setattr(registry, "find_spec", lambda name: name)
    monkeypatch.setattr(registry, "import_module", ModuleType)


def handler(service: str):
    def handle(received) -> None:
        pass

    handle.__module__ = f"{service}.handlers"
    return handle


def test_each_service_has_its_own_handler_of_a_topic(settings):
    one, other = (registry.handles(Happened)(handler(service)) for service in ("stock", "stockist"))

    settings.SERVICE_NAME = "stock"
    assert registry.handlers()["thing.happened"].function is one
    settings.SERVICE_NAME = "stockist"
    assert registry.handlers()["thing.happened"].function is other


def test_a_second_handler_for_a_topic_is_rejected():
    function = registry.handles(Happened)(handler("stock"))

    registry.handles(Happened)(function)
    with pytest.raises(registry.DuplicateHandler, match=r"thing\.happened"):
        registry.handles(Happened)(handler("stock"))
