"""What is on the topics, for the demo, the chaos run and the tests: read from the broker alone, past everything of ours."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import orjson
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from embedded.headers import headers_of
from embedded.positions import Partition, Positions

EVENTS = ("user.created", "order.created", "payment.completed")
READERS = {"user.created": "orders", "order.created": "payments", "payment.completed": "orders"}
"""Which consumer group reads a topic."""
DEAD = {topic: f"{topic}.{group}.dlq" for topic, group in READERS.items()}
"""The dead-letter topic of a topic. Not asked of the code that writes there: a reader that trusts it would not notice."""

Place = tuple[str, int, int]
"""Topic, partition and offset."""

Headers = tuple[tuple[str, bytes | None], ...]


class Behind(Exception):
    """The reader did not reach the end of the topics in time: the broker does not answer, or a transaction is open."""


@dataclass(frozen=True)
class Seen:
    """A record on its topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    produced_at: float = 0.0
    """In seconds, by its producer's clock; that is the clock of all processes on this machine."""
    seen_at: float = 0.0
    """On the clock of `time.monotonic()`."""

    @property
    def place(self) -> Place:
        """Where it is."""
        return (self.topic, self.partition, self.offset)

    def header(self, name: str) -> str:
        """The text of the last header of that name; empty when there is none."""
        return next(
            (v.decode("utf-8", "replace") for n, v in reversed(self.headers) if n == name and v is not None), ""
        )

    @cached_property
    def id(self) -> str:
        """The event's id."""
        return self.header("ce_id")

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The event's data; empty when it cannot be read."""
        try:
            found = orjson.loads(self.value or b"")
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class TopicReader:
    """Reads topics from their beginning, without a group: what it has read is in `seen`, by topic.

    By default it reads committed records only; with `uncommitted`, those of open and aborted transactions too. Not
    thread-safe, but `seen` and `of` may be read while another thread polls.
    """

    def __init__(self, servers: str, names: Iterable[str], *, uncommitted: bool = False) -> None:
        self.servers: dict[str, str | int | float | bool] = {
            "bootstrap.servers": servers,
            "log_level": 0,
            "reconnect.backoff.max.ms": 200,
        }
        self.positions = Positions(servers)
        self.seen: dict[str, list[Seen]] = {name: [] for name in names}
        self._uncommitted = uncommitted
        self._consumer: Consumer | None = None
        self._at: dict[Partition, int] = {}

    def poll(self, timeout: float = 0.1) -> None:
        """Read what there is, waiting for at most `timeout` seconds. Raises KafkaException when the broker is away."""
        consumer = self._consumer = self._consumer or self._open()
        for message in consumer.consume(1000, timeout=timeout):
            self._take(message)

    def caught_up(self, *names: str) -> bool:
        """Whether all that can be read now on these topics has been read; without names, on all."""
        ends = self.positions.ends(names or self.seen, uncommitted=self._uncommitted)
        return self._has_read(ends)

    def catch_up(self, within: float = 20.0) -> None:
        """Read up to where the topics end now. Raises Behind, and KafkaException when the broker is away."""
        self.poll(0)
        ends = self.positions.ends(self.seen, uncommitted=self._uncommitted)
        deadline = time.monotonic() + within
        while not self._has_read(ends):
            if time.monotonic() > deadline:
                raise Behind
            self.poll()

    def of(self, topic: str, **payload: Any) -> list[Seen]:
        """The records read so far on a topic whose payload has these values, in order for each partition."""
        records = list(self.seen[topic])
        return [one for one in records if payload.items() <= one.payload.items()] if payload else records

    def close(self) -> None:
        """Let go of the broker."""
        if self._consumer is not None:
            self._consumer.close()
        self.positions.close()

    def _has_read(self, ends: dict[Partition, int]) -> bool:
        return all(self._at.get(partition, 0) >= end for partition, end in ends.items())

    def _open(self) -> Consumer:
        consumer = Consumer(
            self.servers
            | {
                "group.id": "reader",  # never joined and nothing committed: the partitions are assigned by hand
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted" if self._uncommitted else "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )
        partitions = self.positions.partitions(self.seen)
        consumer.assign([TopicPartition(one.topic, one.partition, 0) for one in partitions])
        return consumer

    def _take(self, message: Message) -> None:
        topic, number, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        error = message.error()
        if error is None:
            headers, produced_at = tuple(headers_of(message)), message.timestamp()[1] / 1000
            key, value = message.key(), message.value()
            self.seen[topic].append(Seen(topic, number, offset, key, value, headers, produced_at, time.monotonic()))
            self._at[topic, number] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            self._at[topic, number] = offset


class TopicFollower(TopicReader):
    """Reads in a thread of its own; use as a context manager."""

    def __init__(self, servers: str, names: Iterable[str], *, uncommitted: bool = False) -> None:
        super().__init__(servers, names, uncommitted=uncommitted)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="topics", daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Read no more."""
        self._stop.set()
        self._thread.join(10)
        self.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            self.poll(0.02)
