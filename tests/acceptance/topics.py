"""The records on the topics, read by an independent client."""

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from embedded import topics
from embedded.positions import Partition
from embedded.topics import EVENTS, SeenRecord, TopicFollower
from tests.waiting import eventually

__all__ = ["DEAD_LETTER_TOPICS", "EVENTS", "Headers", "SeenRecord", "Topics"]

DEAD_LETTER_TOPICS = tuple(topics.DEAD_LETTER_TOPICS.values())

Headers = list[tuple[str, bytes | None]]


class Topics(TopicFollower):
    """Reads topics from the beginning in a separate thread, and writes to them; use as a context manager."""

    def __init__(
        self, servers: str, names: Iterable[str] = EVENTS + DEAD_LETTER_TOPICS, *, uncommitted: bool = False
    ) -> None:
        super().__init__(servers, names, uncommitted=uncommitted)
        self._connect()

    def _connect(self) -> None:
        self._admin = AdminClient(self.servers)
        self._producer = Producer(
            self.servers | {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}
        )

    def reconnect(self) -> None:
        """Use new clients, when a broker is there: old ones may never connect again after a freeze of all brokers."""
        eventually(self._is_served, what="a new client finds a broker")
        self._connect()

    def _is_served(self) -> bool:
        try:
            return bool(AdminClient(self.servers).list_topics(timeout=5).brokers)
        except KafkaException:
            return False

    def by_id(self, topic: str, event_id: str) -> list[SeenRecord]:
        """The records with this `ce_id` that have been read so far."""
        return [record for record in list(self.seen[topic]) if record.id == event_id]

    def dead_letters(self, topic: str, group: str, key: bytes | None) -> list[SeenRecord]:
        """The dead letters of a key."""
        return [record for record in list(self.seen[f"{topic}.{group}.dlq"]) if record.key == key]

    def create(self, name: str, partitions: int) -> None:
        """Create a topic for this test."""
        self._admin.create_topics([NewTopic(name, partitions, 1)], operation_timeout=60)[name].result()

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, partition: int = -1
    ) -> tuple[int, int]:
        """Produce a record. Returns its partition and offset."""
        offsets: list[tuple[int, int]] = []
        self._produce(topic, key, value, headers, partition, offsets)
        self.flush()
        return offsets[0]

    def send_later(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Produce a record without waiting; `flush` waits."""
        self._produce(topic, key, value, headers, -1, [])

    def flush(self) -> None:
        """Wait until the broker has acknowledged all records."""
        left = self._producer.flush(60)
        assert not left, f"Kafka did not acknowledge {left} records within 60 s"

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int,
        offsets: list[tuple[int, int]],
    ) -> None:
        def on_delivery(error: KafkaError | None, message: Any) -> None:
            assert error is None, error
            offsets.append((message.partition(), message.offset()))

        self._producer.produce(topic, value, key, partition, on_delivery, headers=headers)
        self._producer.poll(0)

    # --- offsets ---

    def ends(self, topic: str, *, uncommitted: bool = False) -> dict[Partition, int]:
        """The end offsets of the partitions, by default those that a `read_committed` consumer can reach."""
        return self.positions.ends([topic], uncommitted=uncommitted)

    def committed(self, group: str, topic: str) -> dict[Partition, int]:
        """The committed offsets of a consumer group in a topic."""
        return self.positions.committed(group, topic)

    def processed(self, group: str, topic: str) -> bool:
        """Whether a group has committed an offset after every record that is on the topic now."""
        return not self.unprocessed(group, topic)

    def unprocessed(self, group: str, topic: str) -> str:
        """Why a group has not committed an offset after every record that is on the topic now; empty if it has."""
        ends, all_ends = self.ends(topic), self.ends(topic, uncommitted=True)
        if ends != all_ends:
            # It hides the records after its first one.
            return f"a transaction is open in {topic}: ends {ends}, with uncommitted records {all_ends}"
        if not self.caught_up(topic):
            return f"the test has not read all of {topic}: {self._next_offsets} of {ends}"
        last: dict[Partition, int] = {}
        for record in list(self.seen[topic]):
            last[record.topic, record.partition] = record.offset
        committed = self.committed(group, topic)
        behind = {place: committed.get(place) for place, offset in last.items() if committed.get(place, -1) <= offset}
        return f"{group} has committed {behind} of {topic}, whose last records are {last}" if behind else ""
