"""The environment of a consumer for one test: a topic, its dead-letter topic, a group, and handlers."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from chassis.consumer import consumer as consumer_module
from chassis.consumer import orphaned_transactions
from chassis.events.event import Event
from chassis.events.registry import Handler, Received
from chassis.kafka import names
from tests.chassis.support.kafka_helpers import make_topic, new_topic, send


class Counted(Event):
    """Something was counted."""

    topic: ClassVar[str] = "counted"
    number: int


@dataclass
class Scene:
    """The environment of a test of the consumer."""

    topic: str
    group: str
    handled: list[tuple[str, int]] = field(default_factory=list)
    """(key, number) of each processed event, in order."""
    batches: list[int] = field(default_factory=list)
    react: Any = lambda scene, received: None

    @property
    def dead_letter_topic(self) -> str:
        return names.dead_letter_topic(self.topic, self.group)

    def handle(self, received: list[Received[Counted]]) -> None:
        self.react(self, received)
        self.batches.append(len(received))
        self.handled += [(one.key, one.event.number) for one in received]

    def numbers(self, key: str) -> list[int]:
        return [number for k, number in self.handled if k == key]

    def event(self, number: int, key: str = "k", event_id: str | None = None) -> tuple[bytes, bytes, list]:
        headers = [("ce_id", event_id or str(uuid.uuid4())), ("requestId", f"req-{number}")]
        return key.encode(), json.dumps({"number": number}).encode(), headers

    def send(self, *records: Any) -> None:
        send(self.topic, *records)


@pytest.fixture
def scene(monkeypatch, settings) -> Scene:
    topic = new_topic("counted", partitions=2)
    made = Scene(topic, f"group-{uuid.uuid4().hex[:8]}")
    make_topic(made.dead_letter_topic, partitions=2)
    settings.SERVICE_NAME = made.group
    settings.RETRY_ATTEMPTS = 3
    settings.RETRY_BASE_SECONDS = 0.05
    model = type("Counted", (Counted,), {"topic": topic, "__annotations__": {}})
    monkeypatch.setattr(consumer_module, "registered", lambda: {topic: Handler(model, made.handle)})
    monkeypatch.setattr(orphaned_transactions, "published", list)  # a service of this name has no events.py
    return made
