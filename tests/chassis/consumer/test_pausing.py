"""Which partitions are paused: the limits apply to the process, regardless of the partitions."""

from hypothesis import given
from hypothesis import strategies as st

from chassis.consumer.pausing import Measure, decide

PLACES = [("t", number) for number in range(8)]
sizes = st.fixed_dictionaries({place: st.integers(0, 400) for place in PLACES})
paused_before = st.frozensets(st.sampled_from(PLACES))


@given(paused_before, sizes)
def test_at_the_limit_little_can_grow(before, held):
    measure = Measure(1000, held)
    wanted = decide(before, [measure])
    if measure.total >= 875:
        assert measure.unpaused(wanted) <= 125


@given(paused_before, sizes)
def test_below_half_of_it_nothing_is_paused(before, held):
    measure = Measure(1000, held)
    if measure.total <= 500:
        assert decide(before, [measure]) == frozenset()


@given(paused_before, sizes)
def test_partitions_without_held_events_are_not_paused(before, held):
    wanted = decide(before, [Measure(1000, held)])
    assert all(held[place] for place in wanted)


@given(paused_before, sizes)
def test_it_does_not_flap(before, held):
    once = decide(before, [Measure(1000, held)])
    assert decide(once, [Measure(1000, held)]) == once


def test_partitions_with_most_held_events_are_paused_and_others_proceed():
    held = {("t", 0): 800, ("t", 1): 70, ("t", 2): 30, ("t", 3): 0}
    assert decide(frozenset(), [Measure(1000, held)]) == {("t", 0)}


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.integers(1, 30)), max_size=300))
def test_growth_ends_below_the_bound(growth):
    """Whatever comes, in whatever partition, as long as nothing is finished."""
    held, paused = dict.fromkeys(PLACES, 0), frozenset()
    for place, size in growth:
        if place not in paused:
            held[place] += size
        paused = decide(paused, [Measure(1000, held)])
    assert sum(held.values()) <= 1000 + 30
