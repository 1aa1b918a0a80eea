"""The committed offsets of consumer groups, read by clients that never join them.

A client can read those of one group only. librdkafka's admin client could read those of any, but aborts the process after an
outage of a broker (2.16).
"""

from collections import OrderedDict
from collections.abc import Collection

from confluent_kafka import Consumer, KafkaException, TopicPartition

from chassis.kafka import clients
from chassis.kafka.records import Partition
from chassis.monitor.cluster import REQUEST_SECONDS

KEPT = 16
"""Number of clients that are kept for the next round. Each has a thread per broker and three more."""


class CommittedOffsets:
    """A client for each group, of which the KEPT that were used last are kept.

    Several threads may read at the same time, but not the same group.
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[str, Consumer] = OrderedDict()

    def read(self, group: str, places: list[TopicPartition]) -> dict[Partition, int]:
        """The committed offsets of a group, in those of these partitions where it has any. Raises KafkaException."""
        client = self._clients.pop(group, None) or clients.group_reader(group)
        try:
            found = client.committed(places, timeout=REQUEST_SECONDS)
            client.poll(0)  # librdkafka queues its log messages until it is polled
        except KafkaException:
            # A client whose coordinator has restarted may never find it again.
            client.close()
            raise
        self._clients[group] = client
        if len(self._clients) > KEPT:
            self._clients.popitem(last=False)[1].close()
        return {(one.topic, one.partition): one.offset for one in found if one.error is None and one.offset >= 0}

    def keep_only(self, groups: Collection[str]) -> None:
        """Close the clients of all other groups."""
        for group in self._clients.keys() - set(groups):
            self._clients.pop(group).close()
