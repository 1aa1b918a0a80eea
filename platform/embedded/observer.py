"""A client of the system and of its topics, that sees from outside what happens, and when."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from confluent_kafka import Consumer, Producer, TopicPartition

from embedded.errors import EmbeddedError
from embedded.headers import headers_of
from embedded.positions import Positions

T = TypeVar("T")

TOPICS = ("user.created", "order.created", "payment.completed")


class StepMissing(EmbeddedError):
    """A step of the story did not come in time; the message says which."""


@dataclass(frozen=True)
class Seen:
    """A record as it stands on its topic, and when it was seen, on the clock of time.monotonic()."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    at: float

    def header(self, name: str) -> str:
        """The text of a header; empty when it has none of that name."""
        return next((value.decode() for known, value in self.headers if known == name), "")

    @property
    def payload(self) -> dict[str, Any]:
        """What the event says."""
        return dict(json.loads(self.value))


class Observer:
    """Reads the topics from their beginning in a thread of its own; use as a context manager."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap_servers, "log_level": 0}
        self._positions = Positions(bootstrap_servers)
        self.seen: list[Seen] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="observer", daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Read no more."""
        self._stop.set()
        self._thread.join(5)
        self._positions.close()

    def of(self, topic: str, **payload: str) -> list[Seen]:
        """The records seen so far on a topic whose payload has these values, oldest first."""
        return [
            record
            for record in list(self.seen)
            if record.topic == topic and all(record.payload.get(name) == value for name, value in payload.items())
        ]

    def send_again(self, record: Seen) -> int:
        """Produce the same bytes once more, to the same partition. Returns the offset of the copy."""
        placed: list[int | None] = []
        producer = Producer({**self._servers, "acks": "all", "enable.idempotence": True})
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
        return self._positions.committed(group, topic)[topic, partition]

    def _read(self) -> None:
        consumer = Consumer(
            {
                **self._servers,
                "group.id": "observer",  # never joined and nothing committed: the partitions are assigned by hand
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            topics = consumer.list_topics(timeout=10).topics
            consumer.assign([TopicPartition(name, part, 0) for name in TOPICS for part in topics[name].partitions])
            while not self._stop.is_set():
                for message in consumer.consume(100, timeout=0.05):
                    if message.error() is None:
                        self.seen.append(_seen(message))
        finally:
            consumer.close()


def _seen(message: Any) -> Seen:
    headers = tuple((name, value or b"") for name, value in headers_of(message))
    key, value = message.key() or b"", message.value() or b""
    return Seen(message.topic(), message.partition(), message.offset(), key, value, headers, time.monotonic())


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
