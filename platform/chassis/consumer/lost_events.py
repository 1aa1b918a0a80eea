"""Events that retention deleted before this group processed them are detected, logged and counted.

A consumer that requests an offset which its partition no longer has receives an error (`auto.offset.reset` is `error`), on
assignment and later. A paused partition, which requests nothing, is compared with the broker periodically. With
CONSUMER_ON_LOST_EVENTS=wait the partition waits for an operator. See docs/adr/0032-events-that-retention-took.md.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from django.conf import settings

from chassis.consumer.unit_of_work import Tagged, untagged
from chassis.kafka.clients import EARLIEST
from chassis.kafka.records import Partition
from chassis.observability import metrics
from chassis.runtime.shutdown import Heartbeat

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 0.5
"""How long the loop may wait for the broker to return the start of a partition that cannot be read."""
EVERY_SECONDS = 1.0
"""The interval at which a partition is compared with the broker, each in turn."""
ANSWER_SECONDS = 1.0
"""Timeout of the request for that."""

PART = "events"
"""The name of this check in `/health/ready`."""

INSTRUCTION = (
    "the partition waits for a decision: see 'Events deleted by retention' in docs/runbook.md;"
    " to continue after them, stop this consumer and start it with `manage.py consume --accept-lost`"
)


class LostEvents:
    """Watches the partitions of one consumer. `accept`: continue, even if CONSUMER_ON_LOST_EVENTS is `wait`.

    `skip` is `Backlog.skip`. Events of the partition in memory are older than the lost ones, and must still be processed.
    """

    def __init__(
        self,
        client: Consumer,
        admin: Callable[[], AdminClient],
        heartbeat: Heartbeat,
        skip: Callable[[Partition, int], bool],
        tagged: Tagged = untagged,
        *,
        accept: bool = False,
    ) -> None:
        self._client = client
        self._admin = admin
        self._skip = skip
        self._tagged = tagged
        self._heartbeat = heartbeat
        self._waits = settings.CONSUMER_ON_LOST_EVENTS == "wait" and not accept
        self._waiting: set[Partition] = set()
        """Partitions that wait for an operator's decision."""
        self._next: dict[Partition, int] = {}
        """The next offset to read, as far as is known."""
        self._unresolved: dict[Partition, int] = {}
        """Partitions that are not being read, and the offset that they requested: the broker has not returned their start yet."""
        self._reported: dict[Partition, int] = {}
        """The offset before which every loss has been reported."""
        self._check_at = 0.0
        self._asked: tuple[Partition, Future[Any]] | None = None
        """The partition that is being compared, and the request for its start."""

    @property
    def not_read(self) -> set[Partition]:
        """Partitions that are not being read: an operator must decide, or the broker has not returned their start."""
        return self._waiting | self._unresolved.keys()

    def assigned(self, committed: Iterable[TopicPartition]) -> None:
        """Start watching newly assigned partitions, with the offsets that the group has committed in them."""
        self._next |= {(one.topic, one.partition): one.offset for one in committed if one.offset >= 0}

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Stop watching partitions that another consumer owns now."""
        for partition in partitions:
            for known in (self._next, self._unresolved, self._reported):
                known.pop(partition, None)
            self._waiting.discard(partition)

    def position(self, partition: Partition) -> int:
        """The next offset to read in a partition; OFFSET_BEGINNING if the group has read none."""
        return self._next.get(partition, OFFSET_BEGINNING)

    def received(self, partition: Partition, offset: int) -> None:
        """Note that a record was received."""
        self._next[partition] = offset + 1

    def out_of_range(self, partition: Partition, offset: int) -> None:
        """Handle the error that a partition does not have this offset; less than 0: the group has committed none."""
        self._unresolved[partition] = offset
        self._resolve(partition)

    def check(self, assigned: Iterable[Partition]) -> None:
        """Repeat an unanswered request, or compare the next partition with the broker. Cheap; call it in every iteration."""
        self._compare()
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + EVERY_SECONDS
        if self._unresolved:
            self._resolve(next(iter(self._unresolved)))
            return
        place = next((place for place in self._next if place in assigned), None)
        if place is not None and self._asked is None:
            self._next[place] = self._next.pop(place)  # moves it to the end
            # Not on the consumer's own connection, where a request waits for the fetch before it, up to half a second.
            asked = self._admin().list_offsets({TopicPartition(*place): EARLIEST}, request_timeout=ANSWER_SECONDS)
            self._asked = place, asked[TopicPartition(*place)]

    def _compare(self) -> None:
        """Compare the requested start of a partition, if it has arrived, with the next offset to read."""
        if self._asked is None or not self._asked[1].done():
            return
        (place, future), self._asked = self._asked, None
        if (error := future.exception()) is not None:
            log.debug("the start of a partition is not known", reason=str(error))
        elif (offset := self._next.get(place)) is not None and (first := int(future.result().offset)) > offset:
            self._report(place, offset, first)

    def _resolve(self, place: Partition) -> None:
        """Set the position of a partition that requested an offset which it does not have."""
        offset = self._unresolved[place]
        if offset < 0:
            self._continue_at(place, OFFSET_BEGINNING)
        elif (first := self._first(place)) is None:
            return
        elif offset < first:
            self._report(place, offset, first)
            if self._waits and first - offset > 1:
                self._unresolved.pop(place)
                self._waiting.add(place)
                return
            if self._skip(place, first):
                self._commit(place, first)
            self._continue_at(place, first)
        else:
            log.error(
                "the group's offset is beyond the end of the partition, which was truncated or recreated: starting at its beginning",
                topic=place[0], partition=place[1], offset=offset, first=first,
            )  # fmt: skip
            self._continue_at(place, first)
        self._unresolved.pop(place)

    def _first(self, place: Partition) -> int | None:
        """The first offset of a partition, or None if the broker does not respond."""
        try:
            first, _ = self._client.get_watermark_offsets(TopicPartition(*place), timeout=PATIENCE_SECONDS)
        except KafkaException as error:
            log.debug("the start of a partition is not known", reason=str(error))
            return None
        return int(first)

    def _report(self, place: Partition, offset: int, first: int) -> None:
        """Report lost offsets once. A single one may also be the end of a Kafka transaction, which has an offset too."""
        offset = max(offset, self._reported.get(place, 0))
        if offset >= first:
            return
        self._reported[place] = first
        topic, partition = place
        number = first - offset
        fields = {"topic": topic, "partition": partition, "lost_from": offset, "lost_to": first - 1, "at_most": number}
        if number == 1:
            # Not counted: on every idle partition that a transaction wrote last, retention deletes such a marker in the end.
            log.warning("one offset was deleted before it was read: an event, or the end of a transaction", **fields)
            return
        metrics.EVENTS_LOST.labels(topic).inc(number)
        action = INSTRUCTION if self._waits else "continuing after them"
        log.error(f"events lost: the topic's retention deleted them before they were processed; {action}", **fields)
        self._heartbeat.report(
            PART, f"up to {number} events of {topic}/{partition} were deleted before they were processed"
        )

    def _commit(self, place: Partition, first: int) -> None:
        """Commit the new position, so that the next start does not report the same loss."""
        try:
            self._client.commit(offsets=self._tagged({place: first}), asynchronous=False)
        except KafkaException as error:
            log.warning("offsets not committed", reason=str(error))

    def _continue_at(self, place: Partition, offset: int) -> None:
        # A partition without a valid offset is not fetched, and seek() fails for it.
        self._client.incremental_unassign([TopicPartition(*place)])
        self._client.incremental_assign([TopicPartition(*place, offset)])
