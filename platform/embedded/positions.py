"""How far everybody is, asked of the broker itself: where partitions end, and what consumer groups have committed."""

from collections.abc import Iterable

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

Partition = tuple[str, int]
"""Topic and partition."""

WITHIN_SECONDS = 5.0


class Positions:
    """Asks, and reads nothing. All methods raise KafkaException when the broker does not answer."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap_servers,
            "log_level": 0,
            "reconnect.backoff.max.ms": 200,
        }
        self._admin = AdminClient(self._servers)
        self._groups: dict[str, Consumer] = {}

    def close(self) -> None:
        """Let go of the broker."""
        for consumer in self._groups.values():
            consumer.close()

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics."""
        known = self._admin.list_topics(timeout=2 * WITHIN_SECONDS).topics
        return [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]

    def ends(self, topics: Iterable[str], *, uncommitted: bool = False) -> dict[Partition, int]:
        """Where the partitions end, for a reader of committed records or of all."""
        isolation = IsolationLevel.READ_UNCOMMITTED if uncommitted else IsolationLevel.READ_COMMITTED
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = dict.fromkeys(self.partitions(topics), latest)
        found = self._admin.list_offsets(wanted, isolation_level=isolation, request_timeout=WITHIN_SECONDS)
        return {(one.topic, one.partition): future.result(10).offset for one, future in found.items()}

    def committed(self, group: str, topic: str) -> dict[Partition, int]:
        """The offsets up to which a consumer group has worked a topic off; below 0 where it has committed none."""
        if group not in self._groups:
            # Not by AdminClient.list_consumer_group_offsets: when the broker comes back after an outage, that one never
            # answers again, and in the end aborts the process (librdkafka 2.16). A consumer that never joins can ask too.
            self._groups[group] = Consumer(self._servers | {"group.id": group, "enable.auto.commit": False})
        try:
            found = self._groups[group].committed(self.partitions([topic]), timeout=WITHIN_SECONDS)
        except KafkaException:
            # One that has lost its coordinator to a restart may never find it again; the next question gets a new one.
            self._groups.pop(group).close()
            raise
        return {(one.topic, one.partition): one.offset for one in found}
