"""What stands on the topics, seen by a client of the test's own: it trusts nothing that the system says of itself."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import orjson
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chassis.kafka.names import dead_letter_topic
from embedded.headers import headers_of
from embedded.positions import Place, Positions

EVENTS = ("user.created", "order.created", "payment.completed")
DEAD = tuple(
    dead_letter_topic(topic, service) for topic, service in zip(EVENTS, ("orders", "payments", "orders"), strict=True)
)

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Seen:
    """A record as it stands on its topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    at: float = 0.0
    """When it was produced, in seconds, by its producer's clock; that is the clock of us all."""

    def header(self, name: str) -> str:
        """The text of a header; empty when there is none of that name."""
        return next((value.decode() for known, value in self.headers if known == name and value is not None), "")

    @property
    def id(self) -> str:
        return self.header("ce_id")

    @cached_property
    def payload(self) -> dict[str, Any]:
        """What the event says; empty when it cannot be read."""
        try:
            found = orjson.loads(self.value or b"")
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class Topics:
    """Reads topics from their beginning in a thread of its own; use as a context manager.

    By default it sees what was committed; else, with `uncommitted`, also what stands in open and aborted transactions.
    """

    def __init__(self, servers: str, names: Iterable[str] = EVENTS + DEAD, *, uncommitted: bool = False) -> None:
        self._servers = {"bootstrap.servers": servers, "log_level": 0, "reconnect.backoff.max.ms": 200}
        self._names = tuple(names)
        self._uncommitted = uncommitted
        self._admin = AdminClient(self._servers)
        self._producer = Producer(
            self._servers | {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}
        )
        self._positions = Positions(servers)
        self._seen: dict[str, list[Seen]] = {name: [] for name in self._names}
        self._at: dict[Place, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="topics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._positions.close()

    def of(self, topic: str, **payload: Any) -> list[Seen]:
        """The records seen so far on a topic whose payload says this, in order for each partition."""
        wanted = payload.items()
        return (
            [record for record in list(self._seen[topic]) if wanted <= record.payload.items()]
            if wanted
            else list(self._seen[topic])
        )

    def by_id(self, topic: str, event_id: str) -> list[Seen]:
        """The records seen so far that carry this `ce_id`."""
        return [record for record in list(self._seen[topic]) if record.id == event_id]

    def dead(self, topic: str, group: str, key: bytes | None) -> list[Seen]:
        """The dead letters of a key."""
        return [letter for letter in list(self._seen[dead_letter_topic(topic, group)]) if letter.key == key]

    def make(self, name: str, partitions: int) -> None:
        """Make a topic of the test's own."""
        self._admin.create_topics([NewTopic(name, partitions, 1)], operation_timeout=60)[name].result()

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, partition: int = -1
    ) -> tuple[int, int]:
        """Produce one record. Returns its partition and offset."""
        placed: list[tuple[int, int]] = []
        self._produce(topic, key, value, headers, partition, placed)
        self.flush()
        return placed[0]

    def send_soon(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Produce one record; `flush` waits for it."""
        self._produce(topic, key, value, headers, -1, [])

    def flush(self) -> None:
        """Wait until the broker has all that was sent."""
        left = self._producer.flush(60)
        assert not left, f"Kafka did not take {left} records within 60 s"

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int,
        placed: list[tuple[int, int]],
    ) -> None:
        def done(error: KafkaError | None, message: Any) -> None:
            assert error is None, error
            placed.append((message.partition(), message.offset()))

        self._producer.produce(topic, value, key, partition, done, headers=headers)
        self._producer.poll(0)

    # --- how far everybody is ---

    def ends(self, topic: str, *, uncommitted: bool = False) -> dict[Place, int]:
        """Where the partitions end, for a reader of committed records or of all."""
        return self._positions.ends([topic], uncommitted=uncommitted)

    def caught_up(self, topic: str) -> bool:
        """Whether all that this reader can see of a topic now has been seen."""
        ends = self.ends(topic, uncommitted=self._uncommitted)
        return all(self._at.get(place, -1) >= end for place, end in ends.items())

    def committed(self, group: str, topic: str) -> dict[Place, int]:
        """The offsets up to which a consumer group has worked a topic off."""
        return self._positions.committed(group, topic)

    def worked_off(self, group: str, topic: str) -> bool:
        """Whether a group has committed an offset behind every record that stands on the topic now.

        Not while a transaction is open there: what stands behind its first record is hidden from the group, and from us.
        """
        if not self.caught_up(topic) or self.ends(topic) != self.ends(topic, uncommitted=True):
            return False
        last: dict[Place, int] = {}
        for record in list(self._seen[topic]):
            last[record.topic, record.partition] = record.offset
        done = self.committed(group, topic)
        return all(done.get(place, -1) > offset for place, offset in last.items())

    def _read(self) -> None:
        consumer = Consumer(
            self._servers
            | {
                "group.id": "acceptance",  # never joined and nothing committed: the partitions are assigned by hand
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted" if self._uncommitted else "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            consumer.assign(
                [TopicPartition(place.topic, place.partition, 0) for place in self._positions.places(self._names)]
            )
            while not self._stop.is_set():
                for message in consumer.consume(500, timeout=0.02):
                    self._take(message)
        finally:
            consumer.close()

    def _take(self, message: Any) -> None:
        place = (message.topic(), message.partition())
        if message.error() is None:
            headers = tuple(headers_of(message))
            at = message.timestamp()[1] / 1000
            self._seen[place[0]].append(Seen(*place, message.offset(), message.key(), message.value(), headers, at))
            self._at[place] = message.offset() + 1
        elif message.error().code() == KafkaError._PARTITION_EOF:
            self._at[place] = message.offset()
