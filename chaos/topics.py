"""The committed records on Kafka, read directly from the broker, bypassing the links."""

from confluent_kafka import KafkaError, KafkaException

from embedded.positions import Partition
from embedded.topics import DEAD_LETTER_TOPICS, EVENTS, READERS, TopicReader


class Reader(TopicReader):
    """Reads all topics of the system; call `catch_up` before using `seen`."""

    def __init__(self, servers: str) -> None:
        super().__init__(servers, (*EVENTS, *DEAD_LETTER_TOPICS.values()))

    def open_transactions(self) -> dict[str, int]:
        """The number of records per topic that an open transaction hides from `read_committed` consumers."""
        committed, all_ends = self.positions.ends(self.seen), self.positions.ends(self.seen, uncommitted=True)
        hidden: dict[str, int] = {}
        for (topic, number), end in all_ends.items():
            hidden[topic] = hidden.get(topic, 0) + end - committed[topic, number]
        return {topic: count for topic, count in hidden.items() if count}

    def lag(self) -> dict[str, int]:
        """The number of records per topic that were read here and that the consumer group has not committed.

        Offsets that the broker withholds because of an open transaction count as not committed.
        """
        found = {}
        for topic, group in READERS.items():
            committed = self._committed(group, topic)
            pending = sum(record.offset >= committed.get((topic, record.partition), 0) for record in self.seen[topic])
            if pending:
                found[topic] = pending
        return found

    def _committed(self, group: str, topic: str) -> dict[Partition, int]:
        try:
            return self.positions.committed(group, topic)
        except KafkaException as exception:
            if exception.args[0].code() != KafkaError._TIMED_OUT:
                raise
            return {}
