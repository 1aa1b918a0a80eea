"""Which partitions to stop fetching, as too much of them waits in memory; bounds of the whole process, not of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chassis.messaging.records import Partition


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
