"""Where a consumer starts in its partitions: at the offsets that its group has committed.

librdkafka 2.16 does not repeat its own request for them if a broker refuses it because it is not, or not yet, the coordinator of the
group: the partitions are then never read (its issue 5586). The consumer therefore requests the offsets itself until it has them. See
docs/adr/0065-clients-without-brokers.md.
"""

import time
from collections.abc import Callable, Iterable

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from chassis.kafka.records import Partition

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 1.0
"""How long an assignment, and each further request, may wait for the offsets."""
EVERY_SECONDS = 2.0
"""The interval of further requests."""

Found = Callable[[list[TopicPartition]], list[TopicPartition]]


class StartPositions:
    """Assigns partitions to a client. `found` receives committed offsets, less than 0 if there is none, before they are used.

    `found` returns those at which to start.
    """

    def __init__(self, client: Consumer, found: Found) -> None:
        self._client = client
        self._found = found
        self.unknown: set[Partition] = set()
        """Assigned partitions whose committed offset is not known yet."""
        self._next = 0.0

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Start reading partitions; call it when the group has assigned them."""
        starts = self._committed([(one.topic, one.partition) for one in partitions])
        self.unknown |= {(one.topic, one.partition) for one in partitions} - starts.keys()
        self._next = time.monotonic() + EVERY_SECONDS
        self._client.incremental_assign([starts.get((one.topic, one.partition), one) for one in partitions])

    def check(self, now: float) -> None:
        """Request the offsets that are still unknown, if the next request is due. Call it in every iteration."""
        if not self.unknown or now < self._next:
            return
        starts = self._committed(self.unknown)
        if starts:
            log.info("committed offsets found", partitions=sorted(f"{topic}/{number}" for topic, number in starts))
            # The client does not read these partitions, or has not delivered a record of them: it begins again.
            self._client.incremental_unassign([TopicPartition(*partition) for partition in starts])
            self._client.incremental_assign(list(starts.values()))
            self.known(starts)
        self._next = time.monotonic() + EVERY_SECONDS

    def known(self, partitions: Iterable[Partition]) -> None:
        """Note that these partitions are read, or that another consumer owns them now."""
        self.unknown.difference_update(partitions)

    def _committed(self, partitions: Iterable[Partition]) -> dict[Partition, TopicPartition]:
        """Where to start, in those of the partitions for which the broker returns it in time."""
        places = [TopicPartition(*partition) for partition in partitions]
        try:
            answers = self._client.committed(places, timeout=ANSWER_SECONDS) if places else []
        except KafkaException as error:
            log.debug("committed offsets are not known yet", reason=str(error))
            return {}
        found = self._found([one for one in answers if one.error is None])
        return {(one.topic, one.partition): _start(one) for one in found}


def _start(committed: TopicPartition) -> TopicPartition:
    offset = committed.offset if committed.offset >= 0 else OFFSET_BEGINNING
    return TopicPartition(committed.topic, committed.partition, offset)
