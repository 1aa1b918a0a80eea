"""Records that no consumer can process, sent among the valid ones and remembered with their places."""

import asyncio
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson
from confluent_kafka import KafkaError, Message, Producer

from embedded.raw_kafka import RawRecord, send_raw
from embedded.topics import EVENTS, Headers, Place

EVERY_SECONDS = 2.0
OPTIONS = {
    "log_level": 0,
    "enable.idempotence": True,
    "acks": "all",
    "message.timeout.ms": 0,
    "message.max.bytes": 2_000_000,
}
RAW_SECONDS = 300.0
"""Time limit for sending a raw record; longer than any outage of the broker."""
UNREADABLE, FAILING = "unreadable", "handler"


@dataclass(frozen=True)
class Poison:
    """A record that no consumer can process, its flaw, and the reason that its dead letter must state."""

    topic: str
    flaw: str
    reason: str
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def is_raw(self) -> bool:
        """Whether it has a header name that is not UTF-8 (escaped here), which confluent-kafka cannot write."""
        return any("\\x" in name for name, _ in self.headers)

    def raw(self) -> RawRecord:
        """The record as bytes."""
        names = [name.encode().decode("unicode_escape").encode("latin-1") for name, _ in self.headers]
        return RawRecord(self.key, self.value, list(zip(names, (value for _, value in self.headers), strict=True)))


@dataclass
class PoisonProducer:
    """Sends poison. `sent` maps the place of each record to the record."""

    servers: str
    sent: dict[Place, Poison] = field(default_factory=dict)

    async def run(self, seed: int, duration: float) -> None:
        """Send every kind to every topic at least once, regardless of the duration."""
        rng = random.Random(f"poison {seed}")  # noqa: S311
        deck = [(topic, flaw) for topic in EVENTS for flaw in FLAWS] + [("payment.completed", "unknown order")]
        rng.shuffle(deck)
        step = min(EVERY_SECONDS, duration / len(deck))
        producer = Producer(OPTIONS | {"bootstrap.servers": self.servers})
        raw: list[asyncio.Task[None]] = []
        for number in range(int(duration / step)):
            poison = make(rng, *deck[number % len(deck)])
            if poison.is_raw:
                raw.append(asyncio.create_task(asyncio.to_thread(self._send_raw, poison)))
            else:
                self._send(producer, poison)
            producer.poll(0)
            await asyncio.sleep(step)
        # The checks need to know the place of every record.
        while await asyncio.to_thread(producer.flush, 1):
            continue
        await asyncio.gather(*raw)

    def _send(self, producer: Producer, poison: Poison) -> None:
        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self.sent[message.topic(), message.partition(), message.offset()] = poison  # type: ignore[index]

        headers = list(poison.headers)
        producer.produce(poison.topic, poison.value, poison.key, on_delivery=on_delivery, headers=headers)  # type: ignore[arg-type]

    def _send_raw(self, poison: Poison) -> None:
        record = poison.raw()
        [offset] = send_raw(poison.topic, record, servers=self.servers, within=RAW_SECONDS)
        self.sent[poison.topic, record.partition, offset] = poison


def make(rng: random.Random, topic: str, flaw: str) -> Poison:
    """A record of that topic that is valid except for that flaw."""
    key = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    payload = _payload(topic, key)
    headers = _headers(topic, rng)
    if flaw == "unknown order":
        return Poison(topic, flaw, FAILING, key.encode(), orjson.dumps(payload), headers)
    return Poison(topic, flaw, UNREADABLE, *FLAWS[flaw](key.encode(), orjson.dumps(payload), headers))


Parts = tuple[bytes | None, bytes | None, Headers]

FLAWS: dict[str, Callable[[bytes, bytes, Headers], Parts]] = {
    "undecodable bytes": lambda key, value, headers: (key, b"\xff\xfe\x00{", (*headers, ("odd", b"\xff\x00"))),
    "cut off": lambda key, value, headers: (key, value[:-7], headers),
    "invalid payload": lambda key, value, headers: (key, b'{"userId": 7, "orderId": "x"}', headers),
    "unknown version": lambda key, value, headers: (key, value, tuple(_version_9(headers))),
    "null key": lambda key, value, headers: (None, value, headers),
    "null value": lambda key, value, headers: (key, None, headers),
    "a header name that is not UTF-8": lambda key, value, headers: (
        key,
        value,
        (*headers, ("caf\\xe9-h", b"\x00\xff")),
    ),
    "an id with a NUL": lambda key, value, headers: (key, value, tuple(_with_id(headers, b"a\x00b"))),
    "an id that no index takes": lambda key, value, headers: (key, value, tuple(_with_id(headers, b"x" * 3_000))),
    "a key that no index takes": lambda key, value, headers: (b"\xff" * 5_000, value, headers),
    "headers larger than an event": lambda key, value, headers: (key, value, (*headers, ("large", b"x" * 1_020_000))),
}


def _with_id(headers: Headers, event_id: bytes) -> Iterator[tuple[str, bytes | None]]:
    for name, value in headers:
        yield name, event_id if name == "ce_id" else value


def _version_9(headers: Headers) -> Iterator[tuple[str, bytes | None]]:
    for name, value in headers:
        yield name, value if value is None or name != "ce_dataschema" else value.replace(b":v1", b":v9")


def _payload(topic: str, key: str) -> dict[str, object]:
    when = "2026-11-23T12:00:00Z"
    if topic == "user.created":
        return {"userId": key, "email": f"{key}@example.org", "name": "Eve", "createdAt": when}
    if topic == "order.created":
        return {"orderId": key, "userId": "eve", "items": [], "totalAmount": 0, "createdAt": when}
    payment = {"paymentId": str(uuid.uuid5(uuid.NAMESPACE_OID, key)), "orderId": key, "userId": "eve"}
    return {**payment, "amount": 0, "status": "completed", "completedAt": when}


def _headers(topic: str, rng: random.Random) -> Headers:
    event_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    text = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_type": topic,
        "ce_source": "/chaos",
        "ce_dataschema": f"urn:events:{topic}:v1",
        "content-type": "application/json",
        "requestId": event_id,
    }
    return tuple((name, value.encode()) for name, value in text.items())
