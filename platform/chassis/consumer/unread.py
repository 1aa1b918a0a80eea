"""Noticing records that the client of a consumer should have delivered and has not, without an error.

Seen once with librdkafka 2.16: after the leader of a partition had moved twice, the client delivered the records of all partitions
but this one. The end of a partition does not show it, since the markers of Kafka transactions have offsets too. A partition that
ends after the consumer's position, and stays like this, is therefore read with another client. See
docs/adr/0065-clients-without-brokers.md.
"""

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from chassis.kafka import clients
from chassis.kafka.clients import LATEST
from chassis.kafka.errors import Stranded
from chassis.kafka.records import Partition

EVERY_SECONDS = 10.0
"""The interval at which the partitions are compared with the broker."""
ANSWER_SECONDS = 5.0
"""Timeout of the request for their ends, and of the other client."""
SMALL: dict[str, Any] = {"queued.max.messages.kbytes": 1_024}
"""Options of the other client: it looks for one record."""
CHECKS = 3
"""A partition is read with another client after so many comparisons in a row with the same result."""


class UnreadPartitions:
    """Compares the partitions of one consumer with the broker.

    `admin` returns a client for requests, and `partitions` those that the consumer should be reading. `position` is the next offset
    to read in a partition, less than 0 for its beginning.
    """

    def __init__(
        self,
        admin: Callable[[], AdminClient],
        partitions: Callable[[], Collection[Partition]],
        position: Callable[[Partition], int],
    ) -> None:
        self._admin = admin
        self._partitions = partitions
        self._position = position
        self._check_at = time.monotonic() + EVERY_SECONDS
        self._asked: dict[Partition, tuple[int, Future[Any]]] = {}
        """The partitions that are being compared: their position, and the request for their end."""
        self._behind: dict[Partition, tuple[int, int]] = {}
        """Partitions that end after their position: the position, and how often this was found."""
        self._without: dict[Partition, tuple[int, int]] = {}
        """Partitions without a record between the position and the end, as another client found."""
        self._search: _Search | None = None

    def check(self) -> None:
        """Compare the partitions, if it is time to. Does not wait for the broker.

        Cheap; call it whenever the client has delivered all that it has fetched. Raises Stranded.
        """
        if self._search is not None:
            self._continue(self._search)
        elif self._asked and all(future.done() for _, future in self._asked.values()):
            self._compare()
        elif not self._asked and time.monotonic() >= self._check_at and (partitions := self._partitions()):
            self._check_at = time.monotonic() + EVERY_SECONDS
            self._ask(partitions)

    def close(self) -> None:
        """End a search that is in progress."""
        if self._search is not None:
            self._search.close()
            self._search = None

    def _ask(self, partitions: Collection[Partition]) -> None:
        asked = self._admin().list_offsets(
            {TopicPartition(*partition): LATEST for partition in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=ANSWER_SECONDS,
        )
        places = {(one.topic, one.partition): future for one, future in asked.items()}
        self._asked = {place: (self._position(place), future) for place, future in places.items()}

    def _compare(self) -> None:
        asked, self._asked = self._asked, {}
        behind, doubtful = {}, {}
        for place, (position, future) in asked.items():
            end = -1 if future.exception() else int(future.result().offset)
            if end <= max(0, position) or self._without.get(place) == (position, end):
                continue
            before, times = self._behind.get(place, (position, 0))
            behind[place] = (position, times + 1 if before == position else 1)
            if behind[place][1] >= CHECKS:
                doubtful[place] = (position, end)
        self._behind = behind
        self._without = {place: known for place, known in self._without.items() if place in asked}
        if doubtful:
            self._search = _Search(doubtful)

    def _continue(self, search: "_Search") -> None:
        search.run()
        if not search.is_over:
            return
        self.close()
        self._without |= {place: search.ranges[place] for place in search.empty}
        for topic, number in search.found.intersection(self._partitions()):
            if self._position((topic, number)) == search.ranges[topic, number][0]:
                raise Stranded(f"the client does not deliver the records of {topic}/{number} that another client reads")


class _Search:
    """Another client that looks for records between two offsets of each partition.

    What it finds proves nothing before the end of its time: the other client may be about to deliver it.
    """

    def __init__(self, ranges: dict[Partition, tuple[int, int]]) -> None:
        self.ranges = ranges
        self.found: set[Partition] = set()
        self.empty: set[Partition] = set()
        self._until = time.monotonic() + ANSWER_SECONDS
        self._client: Consumer = clients.reader(**SMALL)
        self._client.assign([TopicPartition(*place, begin) for place, (begin, _) in ranges.items()])

    @property
    def is_over(self) -> bool:
        return len(self.empty) == len(self.ranges) or time.monotonic() > self._until

    def run(self) -> None:
        """Look at what has arrived."""
        try:
            messages = self._client.consume(100, 0)
        except KafkaException:
            return
        for message in messages:
            place, error = (str(message.topic()), int(message.partition() or 0)), message.error()
            if error is None and int(message.offset() or 0) < self.ranges[place][1]:
                self.found.add(place)
            elif place not in self.found and (error is None or error.code() == KafkaError._PARTITION_EOF):
                self.empty.add(place)

    def close(self) -> None:
        self._client.close()
