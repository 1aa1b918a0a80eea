"""Pausing partitions of which too many records wait in memory. The limits apply to the whole process, not to each partition."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, TopicPartition
from django.conf import settings

from chassis.consumer.backlog import Backlog
from chassis.kafka.records import Partition
from chassis.observability import metrics

log = structlog.get_logger(__name__)

SPAN_FACTOR = 20
"""The number of offsets after oldest unfinished ones is limited too, to this many times CONSUMER_HELD_EVENTS."""


class Pausing:
    """Pauses partitions while too many records wait behind failing events, and resumes them."""

    def __init__(self, client: Consumer, backlog: Backlog) -> None:
        self._client = client
        self._backlog = backlog
        self.paused: frozenset[Partition] = frozenset()

    def update(self) -> None:
        """Pause and resume partitions as needed. Cheap while nothing waits; call it in every iteration."""
        events, backlog = settings.CONSUMER_HELD_EVENTS, self._backlog
        if not (self.paused or backlog.held_events):
            return
        measures = (
            Measure(events, backlog.held_events),
            Measure(settings.CONSUMER_HELD_BYTES, backlog.held_bytes),
            Measure(events * SPAN_FACTOR, backlog.spans),
        )
        wanted = decide(self.paused, measures)
        for topic, number in wanted - self.paused:
            self._client.pause([TopicPartition(topic, number)])
            log.warning("partition paused: too many events wait behind failing ones", topic=topic, partition=number)
        for topic, number in self.paused - wanted:
            self._client.resume([TopicPartition(topic, number)])
            log.info("partition resumed", topic=topic, partition=number)
        self.paused = wanted
        metrics.CONSUMER_PAUSED.set(len(wanted))

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that another consumer owns now."""
        gone = set(partitions)
        if stuck := self.paused & gone:
            # librdkafka keeps the state: a paused partition that is assigned here again would never be fetched.
            self._client.resume([TopicPartition(*partition) for partition in stuck])
        self.paused -= gone


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity that partitions hold, and how much of it they may hold together."""

    most: int
    held: Mapping[Partition, int]

    @property
    def total(self) -> int:
        """The amount that all partitions hold."""
        return sum(self.held.values())

    def unpaused(self, paused: Iterable[Partition]) -> int:
        """The amount held by the partitions that are not paused, and may therefore grow."""
        without = set(paused)
        return sum(size for place, size in self.held.items() if place not in without)


def decide(paused: frozenset[Partition], measures: Iterable[Measure]) -> frozenset[Partition]:
    """Return the partitions that should be paused.

    From seven eighths of a limit on, the partitions that hold the most are paused until the others together hold at most an
    eighth of it. So the limit is kept, and partitions that hold little proceed. Paused partitions are resumed when half of
    the limit is free; one that holds hardly anything is resumed at once.
    """
    wanted = set(paused)
    measures = list(measures)
    for measure in measures:
        if measure.total >= measure.most - measure.most // 8:
            for place in sorted(measure.held, key=lambda place: -measure.held[place]):
                if measure.unpaused(wanted) <= measure.most // 8:
                    break
                wanted.add(place)
    for place in sorted(wanted, key=lambda place: sum(m.held.get(place, 0) / m.most for m in measures)):
        rest = wanted - {place}
        if all(_may_resume(measure, place, rest) for measure in measures):
            wanted = rest
    return frozenset(wanted)


def _may_resume(measure: Measure, place: Partition, paused: set[Partition]) -> bool:
    return (
        measure.total <= measure.most // 2
        or not measure.held.get(place)
        or measure.unpaused(paused) <= measure.most // 16
    )
