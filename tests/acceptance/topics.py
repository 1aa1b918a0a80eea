"""What is on the topics, seen by a client of the test's own: it trusts nothing that the system says of itself."""

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from embedded import topics
from embedded.positions import Partition
from embedded.topics import EVENTS, SeenRecord, TopicFollower

__all__ = ["DEAD_LETTER_TOPICS", "EVENTS", "Headers", "SeenRecord", "Topics"]

DEAD_LETTER_TOPICS = tuple(topics.DEAD_LETTER_TOPICS.values())

Headers = list[tuple[str, bytes | None]]


class Topics(TopicFollower):
    """Reads topics from their beginning in a thread of its own, and writes to them; use as a context manager."""

    def __init__(
        self, servers: str, names: Iterable[str] = EVENTS + DEAD_LETTER_TOPICS, *, uncommitted: bool = False
    ) -> None:
        super().__init__(servers, names, uncommitted=uncommitted)
        self._admin = AdminClient(self.servers)
        self._producer = Producer(
            self.servers | {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}
        )

    def by_id(self, topic: str, event_id: str) -> list[SeenRecord]:
        """The records seen so far that carry this `ce_id`."""
        return [record for record in list(self.seen[topic]) if record.id == event_id]

    def dead(self, topic: str, group: str, key: bytes | None) -> list[SeenRecord]:
        """The dead letters of a key."""
        return [letter for letter in list(self.seen[f"{topic}.{group}.dlq"]) if letter.key == key]

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

    def ends(self, topic: str, *, uncommitted: bool = False) -> dict[Partition, int]:
        """Where the partitions end, for a reader of committed records or of all."""
        return self.positions.ends([topic], uncommitted=uncommitted)

    def committed(self, group: str, topic: str) -> dict[Partition, int]:
        """The offsets up to which a consumer group has worked a topic off."""
        return self.positions.committed(group, topic)

    def worked_off(self, group: str, topic: str) -> bool:
        """Whether a group has committed an offset behind every record that stands on the topic now.

        Not while a transaction is open there: what stands behind its first record is hidden from the group, and from us.
        """
        if not self.caught_up(topic) or self.ends(topic) != self.ends(topic, uncommitted=True):
            return False
        last: dict[Partition, int] = {}
        for record in list(self.seen[topic]):
            last[record.topic, record.partition] = record.offset
        done = self.committed(group, topic)
        return all(done.get(place, -1) > offset for place, offset in last.items())
