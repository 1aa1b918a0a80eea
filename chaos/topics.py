"""What stands on Kafka, for a reader of committed records that asks the broker directly, past all links."""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from chassis.kafka.names import dead_letter_topic
from embedded.headers import headers_of
from embedded.positions import Positions

EVENTS = ("user.created", "order.created", "payment.completed")
READERS = {"user.created": "orders", "order.created": "payments", "payment.completed": "orders"}
"""Which consumer group reads a topic."""
DEAD = {topic: dead_letter_topic(topic, group) for topic, group in READERS.items()}

Place = tuple[str, int, int]
"""Topic, partition and offset."""

Headers = tuple[tuple[str, bytes | None], ...]


class Behind(Exception):
    """The reader did not reach the end of the topics in time: the broker does not answer, or a transaction is open."""


@dataclass(frozen=True)
class Seen:
    """A record as it stands on its topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def place(self) -> Place:
        """Where it stands."""
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
        """What the event says; empty when it cannot be read."""
        try:
            found = orjson.loads(self.value or b"")
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class Reader:
    """Reads all topics from their beginning, without a group; call `catch_up` before looking at `seen`."""

    def __init__(self, servers: str) -> None:
        self._servers: dict[str, str | int | float | bool] = {
            "bootstrap.servers": servers,
            "log_level": 0,
            "reconnect.backoff.max.ms": 200,
        }
        self._positions = Positions(servers)
        self._consumer: Consumer | None = None
        self._at: dict[tuple[str, int], int] = {}
        self.seen: dict[str, list[Seen]] = {name: [] for name in (*EVENTS, *DEAD.values())}

    def catch_up(self, within: float = 20.0) -> None:
        """Read up to where committed records end now. Raises Behind, and KafkaException when the broker is away."""
        consumer = self._consumer = self._consumer or self._open()
        ends = self._positions.ends(self.seen)
        deadline = time.monotonic() + within
        while any(self._at.get(place, 0) < end for place, end in ends.items()):
            if time.monotonic() > deadline:
                raise Behind
            for message in consumer.consume(1000, timeout=0.1):
                self._take(message)

    def close(self) -> None:
        """Let go of the broker."""
        if self._consumer is not None:
            self._consumer.close()
        self._positions.close()

    def open_transactions(self) -> dict[str, int]:
        """For each topic, how many records no reader of committed records can reach because a transaction is open."""
        committed, all_ends = self._positions.ends(self.seen), self._positions.ends(self.seen, uncommitted=True)
        hidden: dict[str, int] = {}
        for (topic, number), end in all_ends.items():
            hidden[topic] = hidden.get(topic, 0) + end - committed[topic, number]
        return {topic: count for topic, count in hidden.items() if count}

    def lag(self) -> dict[str, int]:
        """For each topic, how many records that were read here its group has not committed.

        Offsets that the broker does not tell, as an open transaction holds them back, are none.
        """
        found = {}
        for topic, group in READERS.items():
            done = self._committed(group, topic)
            waiting = sum(record.offset >= done.get((topic, record.partition), 0) for record in self.seen[topic])
            if waiting:
                found[topic] = waiting
        return found

    def _committed(self, group: str, topic: str) -> dict[tuple[str, int], int]:
        try:
            return self._positions.committed(group, topic)
        except KafkaException as exception:
            if exception.args[0].code() != KafkaError._TIMED_OUT:
                raise
            return {}

    def _open(self) -> Consumer:
        consumer = Consumer(
            self._servers
            | {
                "group.id": "chaos",  # never joined and nothing committed: the partitions are assigned by hand
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.assign(
            [TopicPartition(place.topic, place.partition, 0) for place in self._positions.places(self.seen)]
        )
        return consumer

    def _take(self, message: Any) -> None:
        place = (message.topic(), message.partition())
        if message.error() is None:
            headers = tuple(headers_of(message))
            self.seen[place[0]].append(Seen(*place, message.offset(), message.key(), message.value(), headers))
            self._at[place] = message.offset() + 1
        elif message.error().code() == KafkaError._PARTITION_EOF:
            self._at[place] = message.offset()
