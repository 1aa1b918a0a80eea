"""A client of the system and of its topics, which observes from outside what happens and when."""

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
from embedded.topics import EVENTS, SeenRecord, TopicFollower

T = TypeVar("T")


class StepMissing(EmbeddedError):
    """A step of the story did not happen in time; the message states which."""


class Observer(TopicFollower):
    """Reads the topics of the system from the beginning."""

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(bootstrap_servers, EVENTS)

    def send_duplicate(self, record: SeenRecord) -> int:
        """Produce the same bytes once more, to the same partition. Returns the offset of the copy."""
        offsets: list[int | None] = []
        producer = Producer({**self.servers, "acks": "all", "enable.idempotence": True})
        producer.produce(
            record.topic,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            partition=record.partition,
            on_delivery=lambda error, message: None if error else offsets.append(message.offset()),
        )
        if producer.flush(10) or not offsets:
            raise EmbeddedError(f"Kafka did not acknowledge the second {record.topic} within 10 s")
        return int(offsets[0] or 0)

    def committed(self, group: str, topic: str, partition: int) -> int:
        """The committed offset of a consumer group in a partition."""
        return self.positions.committed(group, topic)[topic, partition]


async def until(find: Callable[[], T | None], *, within: float, missing: str) -> T:
    """Call `find` until it returns something. Raises StepMissing after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = find()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise StepMissing(f"{missing} was not found within {within:g} s")
        await asyncio.sleep(0.002)


@dataclass(frozen=True)
class Response:
    """An HTTP response, with parsed JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


async def call(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Response:
    """Send an HTTP request with JSON, and return the response, whatever its status. Raises StepMissing without a response."""
    return await asyncio.to_thread(_call, method, url, body, headers or {})


def _call(method: str, url: str, body: Any, headers: Mapping[str, str]) -> Response:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)  # noqa: S310
    try:
        with _direct.open(request, timeout=15) as response:
            return _response(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return _response(error.code, error.headers, error.read())
    except OSError as error:
        raise StepMissing(f"no response to {method} {url}: {error}") from error


# Ignores the proxies of the environment, which cannot reach addresses of this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _response(status: int, headers: Any, body: bytes) -> Response:
    try:
        content = json.loads(body)
    except ValueError:
        content = body.decode(errors="replace")
    return Response(status, headers, content)
