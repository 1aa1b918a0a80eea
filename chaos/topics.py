"""What stands on Kafka, for a reader of committed records that asks the broker directly, past all links."""

from confluent_kafka import KafkaError, KafkaException

from embedded.positions import Partition
from embedded.topics import DEAD_LETTER_TOPICS, EVENTS, READERS, TopicReader


class Reader(TopicReader):
    """Reads all topics of the system; call `catch_up` before looking at `seen`."""

    def __init__(self, servers: str) -> None:
        super().__init__(servers, (*EVENTS, *DEAD_LETTER_TOPICS.values()))

    def open_transactions(self) -> dict[str, int]:
        """For each topic, how many records no reader of committed records can reach because a transaction is open."""
        committed, all_ends = self.positions.ends(self.seen), self.positions.ends(self.seen, uncommitted=True)
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

    def _committed(self, group: str, topic: str) -> dict[Partition, int]:
        try:
            return self.positions.committed(group, topic)
        except KafkaException as exception:
            if exception.args[0].code() != KafkaError._TIMED_OUT:
                raise
            return {}
