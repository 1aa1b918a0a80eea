"""Events that retention deleted before this group handled them: found, said, counted, and, where so set, waited with.

A consumer that asks for an offset which its partition does not have any more is told so (`auto.offset.reset` is `error`),
on assignment and while it runs; a partition that is paused, and so asks for nothing, is compared with the broker now and
then. See docs/adr/0032-events-that-retention-took.md.
"""

import time
from collections.abc import Callable, Iterable, Mapping

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from django.conf import settings

from chassis.consumer.unit_of_work import Tagged, untagged
from chassis.kafka.records import Partition
from chassis.observability import metrics
from chassis.runtime.shutdown import Heartbeat

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 0.5
"""How long the loop may stand to ask where one partition begins."""
EVERY_SECONDS = 1.0
"""So often one partition is compared, in turn."""

PART = "events"
"""What `/health/ready` calls it."""

INSTRUCTION = (
    "the partition waits for a decision: see 'Events deleted by retention' in docs/runbook.md;"
    " to go on behind them, stop this consumer and start it with `manage.py consume --accept-lost`"
)


class LostEvents:
    """Watches the partitions of one consumer. `accept`: go on, whatever CONSUMER_ON_LOST_EVENTS says.

    `skip` is `Backlog.skip`: what is in hand of a partition is older than what is lost, and not finished by that.
    """

    def __init__(
        self,
        client: Consumer,
        heartbeat: Heartbeat,
        skip: Callable[[Partition, int], bool],
        tagged: Tagged = untagged,
        *,
        accept: bool = False,
    ) -> None:
        self._client = client
        self._skip = skip
        self._tagged = tagged
        self._heartbeat = heartbeat
        self._waits = settings.CONSUMER_ON_LOST_EVENTS == "wait" and not accept
        self._next: dict[Partition, int] = {}
        """The offset that is read next, as far as is known."""
        self._unanswered: dict[Partition, int] = {}
        """Partitions without an offset to go on from, as the broker did not answer; and the one that they asked for."""
        self._told: dict[Partition, int] = {}
        """The offset before which all that is lost was said."""
        self._look_at = 0.0

    def assigned(self, committed: Iterable[TopicPartition]) -> None:
        """These partitions are ours now, and this is what the group has committed in them."""
        self._next |= {(one.topic, one.partition): one.offset for one in committed if one.offset >= 0}

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These are another consumer's now."""
        for partition in partitions:
            for known in (self._next, self._unanswered, self._told):
                known.pop(partition, None)

    def received(self, partition: Partition, offset: int) -> None:
        """A record came."""
        self._next[partition] = offset + 1

    def out_of_range(self, partition: Partition, offset: int) -> None:
        """The partition does not have this offset; less than 0: the group has committed none."""
        self._unanswered[partition] = offset
        self._answer(partition)

    def look(self, assigned: Iterable[Partition]) -> None:
        """Ask for what is still unanswered, and compare the partition whose turn it is. Cheap; call it every turn."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + EVERY_SECONDS
        if self._unanswered:
            self._answer(next(iter(self._unanswered)))
            return
        place = next((place for place in self._next if place in assigned), None)
        if place is not None:
            self._next[place] = offset = self._next.pop(place)  # behind the others
            if (first := self._first(place)) is not None and first > offset:
                self._tell(place, offset, first)

    def _answer(self, place: Partition) -> None:
        """Say where a partition goes on that asked for an offset it does not have."""
        offset = self._unanswered[place]
        if offset < 0:
            self._go_on(place, OFFSET_BEGINNING)
        elif (first := self._first(place)) is None:
            return
        elif offset < first:
            self._tell(place, offset, first)
            if self._waits and first - offset > 1:
                self._unanswered.pop(place)
                return
            if self._skip(place, first):
                self._commit(place, first)
            self._go_on(place, first)
        else:
            log.error(
                "the group's offset is behind the end of the partition, which was truncated or made anew: starting at its beginning",
                topic=place[0], partition=place[1], offset=offset, first=first,
            )  # fmt: skip
            self._go_on(place, first)
        self._unanswered.pop(place)

    def _first(self, place: Partition) -> int | None:
        """The first offset that a partition has, or None when the broker does not answer."""
        try:
            first, _ = self._client.get_watermark_offsets(TopicPartition(*place), timeout=PATIENCE_SECONDS)
        except KafkaException as error:
            log.debug("where a partition begins is not known", reason=str(error))
            return None
        return int(first)

    def _tell(self, place: Partition, offset: int, first: int) -> None:
        """Say what is lost, once. The end of a Kafka transaction takes an offset too: of one alone nobody can know."""
        offset = max(offset, self._told.get(place, 0))
        if offset >= first:
            return
        self._told[place] = first
        topic, partition = place
        number = first - offset
        fields = {"topic": topic, "partition": partition, "lost_from": offset, "lost_to": first - 1, "at_most": number}
        metrics.EVENTS_LOST.labels(topic).inc(number)
        if number == 1:
            log.warning("one offset was deleted before it was read: an event, or the end of a transaction", **fields)
            return
        what = INSTRUCTION if self._waits else "going on behind them"
        log.error(f"events lost: the topic's retention deleted them before they were handled; {what}", **fields)
        self._heartbeat.say(PART, f"up to {number} events of {topic}/{partition} were deleted before they were handled")

    def _commit(self, place: Partition, first: int) -> None:
        """So that the next start does not find the same."""
        try:
            self._client.commit(offsets=self._tagged({place: first}), asynchronous=False)
        except KafkaException as error:
            log.warning("offsets not committed", reason=str(error))

    def _go_on(self, place: Partition, offset: int) -> None:
        # A partition that has no valid offset is not fetched, and cannot be told to seek.
        self._client.incremental_unassign([TopicPartition(*place)])
        self._client.incremental_assign([TopicPartition(*place, offset)])


def starts(partitions: Iterable[TopicPartition], committed: Mapping[Partition, int]) -> list[TopicPartition]:
    """Where to begin in each of these: where the group stands; where it stands nowhere, at the beginning."""

    def start(one: TopicPartition) -> TopicPartition:
        offset = committed.get((one.topic, one.partition))
        if offset is None:
            return one
        return TopicPartition(one.topic, one.partition, offset if offset >= 0 else OFFSET_BEGINNING)

    return [start(one) for one in partitions]
