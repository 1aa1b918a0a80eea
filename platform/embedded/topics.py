"""The records on the topics, for the demo, the chaos run and the tests. Read from the broker without any of the chassis."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from embedded.headers import headers_of
from embedded.positions import Partition, Positions

EVENTS = ("user.created", "order.created", "payment.completed")
READERS = {"user.created": "orders", "order.created": "payments", "payment.completed": "orders"}
"""The consumer group of each topic."""
DEAD_LETTER_TOPICS = {topic: f"{topic}.{group}.dlq" for topic, group in READERS.items()}
"""The dead-letter topic of each topic. Spelled out here, so that an error in the chassis is noticed."""

SILENCE_SECONDS = 10.0
"""A client that has delivered nothing for so long is replaced: after a freeze of the brokers, it may never connect again."""

Place = tuple[str, int, int]
"""Topic, partition and offset."""

Headers = tuple[tuple[str, bytes | None], ...]


class NotCaughtUp(Exception):
    """The reader did not reach the end of the topics in time: the broker does not respond, or a transaction is open."""


@dataclass(frozen=True)
class SeenRecord:
    """A record that was read from its topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    produced_at: float = 0.0
    """Its timestamp in seconds, by the clock of this machine."""
    seen_at: float = 0.0
    """On the clock of `time.monotonic()`."""

    @property
    def place(self) -> Place:
        """Its topic, partition and offset."""
        return (self.topic, self.partition, self.offset)

    def header(self, name: str) -> str:
        """The last header of that name, as text; empty if there is none."""
        return next(
            (v.decode("utf-8", "replace") for n, v in reversed(self.headers) if n == name and v is not None), ""
        )

    @cached_property
    def id(self) -> str:
        """The event's id."""
        return self.header("ce_id")

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The event's data; empty if it cannot be parsed."""
        try:
            found = orjson.loads(self.value or b"")
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class TopicReader:
    """Reads topics from the beginning, without a consumer group. The records are in `seen`, by topic.

    By default it reads only committed records; with `uncommitted`, those of open and aborted transactions too. Not
    thread-safe, but `seen` and `of` may be read while another thread polls.
    """

    def __init__(self, servers: str, names: Iterable[str], *, uncommitted: bool = False) -> None:
        self.servers: dict[str, str | int | float | bool] = {
            "bootstrap.servers": servers,
            "log_level": 0,
            "reconnect.backoff.max.ms": 200,
        }
        self.positions = Positions(servers)
        self.seen: dict[str, list[SeenRecord]] = {name: [] for name in names}
        self._uncommitted = uncommitted
        self._consumer: Consumer | None = None
        self._next_offsets: dict[Partition, int] = {}
        self._heard_at = 0.0
        """When the client last delivered something; the end of a partition too, which each new client reports."""

    def poll(self, timeout: float = 0.1) -> None:
        """Read available records, waiting for at most `timeout` seconds. Raises KafkaException if the broker is unavailable."""
        if self._consumer is not None and time.monotonic() - self._heard_at > SILENCE_SECONDS:
            # Closing a client that has lost its brokers may never return.
            threading.Thread(target=self._consumer.close, daemon=True).start()
            self._consumer = None
        if self._consumer is None:
            self._consumer, self._heard_at = self._open(), time.monotonic()
        # `consume` would wait until there are as many records as requested.
        first = self._consumer.poll(timeout)
        if first is not None:
            self._heard_at = time.monotonic()
            self._add(first)
            for message in self._consumer.consume(1000, 0):
                self._add(message)

    def caught_up(self, *names: str) -> bool:
        """Whether everything that can be read from these topics, by default from all, has been read."""
        ends = self.positions.ends(names or self.seen, uncommitted=self._uncommitted)
        return self._has_read(ends)

    def catch_up(self, within: float = 20.0) -> None:
        """Read up to the current end of the topics. Raises NotCaughtUp, and KafkaException if the broker is unavailable."""
        self.poll(0)
        ends = self.positions.ends(self.seen, uncommitted=self._uncommitted)
        deadline = time.monotonic() + within
        while not self._has_read(ends):
            if time.monotonic() > deadline:
                raise NotCaughtUp
            self.poll()

    def of(self, topic: str, **payload: Any) -> list[SeenRecord]:
        """The records read so far from a topic whose payload contains these values, in order per partition."""
        records = list(self.seen[topic])
        return [one for one in records if payload.items() <= one.payload.items()] if payload else records

    def close(self) -> None:
        """Close the connections."""
        if self._consumer is not None:
            self._consumer.close()
        self.positions.close()

    def _has_read(self, ends: dict[Partition, int]) -> bool:
        return all(self._next_offsets.get(partition, 0) >= end for partition, end in ends.items())

    def _open(self) -> Consumer:
        consumer = Consumer(
            self.servers
            | {
                "group.id": "reader",  # never joined, nothing committed: partitions are assigned manually
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted" if self._uncommitted else "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 200,  # new records end the wait
            }
        )
        partitions = self.positions.partitions(self.seen)
        starts = [(one.topic, one.partition) for one in partitions]
        consumer.assign([TopicPartition(*start, self._next_offsets.get(start, 0)) for start in starts])
        return consumer

    def _add(self, message: Message) -> None:
        topic, number, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        error = message.error()
        if error is None:
            headers, produced_at = tuple(headers_of(message)), message.timestamp()[1] / 1000
            key, value = message.key(), message.value()
            self.seen[topic].append(
                SeenRecord(topic, number, offset, key, value, headers, produced_at, time.monotonic())
            )
            self._next_offsets[topic, number] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            self._next_offsets[topic, number] = offset


class TopicFollower(TopicReader):
    """Reads in a separate thread; use as a context manager."""

    def __init__(self, servers: str, names: Iterable[str], *, uncommitted: bool = False) -> None:
        super().__init__(servers, names, uncommitted=uncommitted)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="topics", daemon=True)
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        """Start reading."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(10)
        self.close()

    def caught_up(self, *names: str) -> bool:
        """Whether everything that can be read from these topics, by default from all, has been read.

        Raises RuntimeError if the thread has ended, since then nothing more is read.
        """
        if self._failure is not None:
            raise RuntimeError("the reader of the topics has ended") from self._failure
        return super().caught_up(*names)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll(0.02)
            except KafkaException:  # the broker is unavailable
                self._stop.wait(0.2)
            except Exception as error:
                self._failure = error
                raise
