"""The events of each service, as its web process describes them at `/asyncapi`: what it publishes, and what it consumes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from console.sources.http import Client, NoAnswer
from console.sources.processes import Process
from console.sources.remembered import Remembered, Said

FRESH_SECONDS = 30.0
"""How long a description is used before it is read again: it changes only with a new version of the service."""
TIMEOUT_SECONDS = 2.0

_VERSION = re.compile(r":v([0-9]{1,9})\Z", re.ASCII)
_GROUP = re.compile(r"Consumer group `([^`]{1,249})`. Dead letters are written to `([^`]{1,249})`")


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a service knows it; a consumer's schema has the fields that it reads.

    `name` is its logical name, `topic` the one at the broker. `group` and `dead_letter_topic` are those of a consumer.
    """

    name: str
    topic: str
    model: str
    summary: str
    version: int | None
    schema: dict[str, Any]
    group: str = ""
    dead_letter_topic: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """What a service publishes and consumes. `known` is whether it ever described itself, `problem` why it does not now."""

    service: str
    publishes: tuple[Event, ...] = ()
    consumes: tuple[Event, ...] = ()
    known: bool = False
    problem: str = ""


class Events:
    """The descriptions of all services, the last known one of a service that does not respond. Safe for several threads."""

    def __init__(self, webs: Iterable[Process]) -> None:
        self._clients = {one.service: Client(one.url, timeout=TIMEOUT_SECONDS) for one in webs}
        self._answers = Remembered(self._clients, self._ask, FRESH_SECONDS)

    def known(self) -> tuple[Description, ...]:
        """The descriptions as they were last read, without a request."""
        return tuple(_last(service, said) for service, said in self._answers.known().items())

    def read(self) -> tuple[Description, ...]:
        """The descriptions; old ones are read again. Takes about TIMEOUT_SECONDS if a service does not respond."""
        self._answers.read()
        return self.known()

    def _ask(self, service: str) -> Description:
        answer = self._clients[service].request("GET", "/asyncapi")
        # A service without events has no such page.
        if answer.status not in {200, 404}:
            raise NoAnswer(f"responded {answer.status}")
        return described(service, answer.json() if answer.status == 200 else {})


def _last(service: str, said: Said[Description]) -> Description:
    return replace(said.value or Description(service), problem=said.problem)


def described(service: str, document: Any) -> Description:
    """The description in an AsyncAPI document of this system. What is not understood in it is left out."""
    channels, operations = _dict(_dict(document).get("channels")), _dict(_dict(document).get("operations"))
    found: dict[str, list[Event]] = {"send": [], "receive": []}
    for operation in operations.values():
        action = _dict(operation).get("action")
        name = str(_dict(_dict(operation).get("channel")).get("$ref", "")).removeprefix("#/channels/")
        if isinstance(action, str) and action in found and isinstance(channels.get(name), dict):
            found[action].append(_event(name, channels[name], str(operation.get("description", ""))))
    return Description(service, tuple(found["send"]), tuple(found["receive"]), known=True)


def _event(name: str, channel: dict[str, Any], description: str) -> Event:
    messages = _dict(channel.get("messages"))
    model, message = next(iter(messages.items()), (name, {}))
    schema = _dict(_dict(message).get("payload"))
    version = _VERSION.search(str(schema.get("$id", "")))
    group = _GROUP.search(description)
    return Event(
        name=name,
        topic=str(channel.get("address") or name),
        model=model,
        summary=str(_dict(message).get("summary", "")),
        version=int(version[1]) if version else None,
        schema=schema,
        group=group[1] if group else "",
        dead_letter_topic=group[2] if group else "",
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
