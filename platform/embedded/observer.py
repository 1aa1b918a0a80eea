"""A client of the system and of its topics, that sees from outside what happens, and when."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Producer

from embedded.errors import EmbeddedError
from embedded.topics import EVENTS, Seen, TopicFollower

T = TypeVar("T")


class StepMissing(EmbeddedError):
    """A step of the story did not come in time; the message says which."""


class Observer(TopicFollower):
    """Follows the topics of the system from their beginning."""

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(bootstrap_servers, EVENTS)

    def send_again(self, record: Seen) -> int:
        """Produce the same bytes once more, to the same partition. Returns the offset of the copy."""
        placed: list[int | None] = []
        producer = Producer({**self.servers, "acks": "all", "enable.idempotence": True})
        producer.produce(
            record.topic,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            partition=record.partition,
            on_delivery=lambda error, message: None if error else placed.append(message.offset()),
        )
        if producer.flush(10) or not placed:
            raise EmbeddedError(f"Kafka did not take the second {record.topic} within 10 s")
        return int(placed[0] or 0)

    def committed(self, group: str, topic: str, partition: int) -> int:
        """The offset up to which a consumer group has worked a partition off."""
        return self.positions.committed(group, topic)[topic, partition]


async def until(look: Callable[[], T | None], *, within: float, missing: str) -> T:
    """Look until something is there. Raises StepMissing."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise StepMissing(f"{missing} did not come within {within:g} s")
        await asyncio.sleep(0.002)


@dataclass(frozen=True)
class Answer:
    """What came back from an HTTP request."""

    status: int
    headers: Mapping[str, str]
    body: Any


async def call(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Send an HTTP request with JSON and read the answer, whatever its status. Raises StepMissing when none comes."""
    return await asyncio.to_thread(_call, method, url, body, headers or {})


def _call(method: str, url: str, body: Any, headers: Mapping[str, str]) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)  # noqa: S310
    try:
        with _direct.open(request, timeout=15) as response:
            return _answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return _answer(error.code, error.headers, error.read())
    except OSError as error:
        raise StepMissing(f"no answer to {method} {url}: {error}") from error


# Without the proxies of the environment: this machine's own addresses are not theirs to reach.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    try:
        content = json.loads(body)
    except ValueError:
        content = body.decode(errors="replace")
    return Answer(status, headers, content)
