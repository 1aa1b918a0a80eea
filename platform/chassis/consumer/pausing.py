"""Which partitions to stop fetching, as too much of them waits in memory; bounds of the whole process, not of each."""

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
"""Partitions are paused, too, when this many times CONSUMER_HELD_EVENTS offsets lie behind oldest unfinished ones."""


class Pausing:
    """Stops fetching partitions while too much of them waits behind failing events, and resumes them."""

    def __init__(self, client: Consumer, backlog: Backlog) -> None:
        self._client = client
        self._backlog = backlog
        self.paused: frozenset[Partition] = frozenset()

    def look(self) -> None:
        """Pause and resume what has to be. Cheap while nothing waits; call it every turn."""
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
            log.warning("partition paused: too much waits behind failing events", topic=topic, partition=number)
        for topic, number in self.paused - wanted:
            self._client.resume([TopicPartition(topic, number)])
            log.info("partition resumed", topic=topic, partition=number)
        self.paused = wanted
        metrics.CONSUMER_PAUSED.set(len(wanted))

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These are another consumer's now."""
        gone = set(partitions)
        if stuck := self.paused & gone:
            # librdkafka keeps the mark: a paused partition that comes back here one day would never be fetched.
            self._client.resume([TopicPartition(*partition) for partition in stuck])
        self.paused -= gone


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that partitions hold, and how much of it all of them may hold together."""

    most: int
    held: Mapping[Partition, int]

    @property
    def total(self) -> int:
        """What all hold."""
        return sum(self.held.values())

    def unpaused(self, paused: Iterable[Partition]) -> int:
        """What those hold that go on being fetched, and may come to hold more."""
        without = set(paused)
        return sum(size for place, size in self.held.items() if place not in without)


def decide(paused: frozenset[Partition], measures: Iterable[Measure]) -> frozenset[Partition]:
    """The partitions to be paused from now on.

    From seven eighths of a bound on, those that hold most are paused, until what the others hold together is an eighth of
    it at most: so the bound holds, and a partition with little in it goes on. They are resumed when half of the bound is
    free; one that holds hardly anything, at once.
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
