"""The end offsets of partitions and the committed offsets of consumer groups, queried from the broker."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from confluent_kafka import OFFSET_INVALID, Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

Partition = tuple[str, int]
"""Topic and partition."""

T = TypeVar("T")

TIMEOUT_SECONDS = 5.0


class Positions:
    """Queries offsets without reading records. All methods raise KafkaException if the broker does not respond."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap_servers,
            "log_level": 0,
            "reconnect.backoff.max.ms": 200,
        }
        self._admin = AdminClient(self._servers)
        self._groups: dict[str, Consumer] = {}

    def close(self) -> None:
        """Close the connections."""
        for consumer in self._groups.values():
            consumer.close()

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics."""
        topics = list(topics)
        known = self._ask(lambda admin: admin.list_topics(timeout=2 * TIMEOUT_SECONDS)).topics
        if missing := [topic for topic in topics if topic not in known]:
            # Also for a moment after a freeze, when the cluster counts no broker as alive.
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC, f"not known to the broker: {missing}"))
        return [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]

    def ends(self, topics: Iterable[str], *, uncommitted: bool = False) -> dict[Partition, int]:
        """The end offsets of all partitions, by default those that a `read_committed` consumer can reach."""
        isolation = IsolationLevel.READ_UNCOMMITTED if uncommitted else IsolationLevel.READ_COMMITTED
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        requests = dict.fromkeys(self.partitions(topics), latest)

        def ask(admin: AdminClient) -> dict[Partition, int]:
            found = admin.list_offsets(requests, isolation_level=isolation, request_timeout=TIMEOUT_SECONDS)
            ends = {(one.topic, one.partition): future.result(10).offset for one, future in found.items()}
            if OFFSET_INVALID in ends.values():  # so librdkafka (2.16) reports a leader that does not respond
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the leader of a partition does not respond"))
            return ends

        return self._ask(ask)

    def committed(self, group: str, topic: str) -> dict[Partition, int]:
        """The committed offsets of a consumer group in a topic; negative if it has committed none."""
        if group not in self._groups:
            # Not AdminClient.list_consumer_group_offsets: after an outage of the broker it never returns again, and
            # eventually aborts the process (librdkafka 2.16). A consumer that never joins the group can query too.
            self._groups[group] = Consumer(self._servers | {"group.id": group, "enable.auto.commit": False})
        try:
            found = self._groups[group].committed(self.partitions([topic]), timeout=TIMEOUT_SECONDS)
        except KafkaException:
            # A consumer whose coordinator restarted may never find it again; the next query creates a new one.
            self._groups.pop(group).close()
            raise
        return {(one.topic, one.partition): one.offset for one in found}

    def _ask(self, request: Callable[[AdminClient], T]) -> T:
        """Send a request. After an error the next one is sent by a new client, since this one may never connect again."""
        try:
            return request(self._admin)
        except KafkaException:
            self._admin = AdminClient(self._servers)
            raise
