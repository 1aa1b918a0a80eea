"""Triage on a simulated clock: whatever fails, other events do not wait long, and no event is dead-lettered wrongly."""

import pytest
from confluent_kafka import KafkaError, KafkaException
from django.db import InterfaceError, OperationalError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chassis.consumer.pace import SHORT_SECONDS
from chassis.kafka.errors import Fenced
from chassis.runtime.failures import DeadLetterRefused, DependencyDown, HandlerTimeout
from tests.chassis.support.records import record
from tests.chassis.support.simulation import EACH, OVERHEAD, Simulation, clock


def sql(code: str) -> OperationalError:
    """What Django raises for an SQLSTATE."""
    error = OperationalError(code)
    error.__cause__ = type("Cause", (Exception,), {"sqlstate": code})()
    return error


RAISED = {
    **{code: (lambda code=code: sql(code)) for code in ("55000", "55P03", "53200", "57P01", "40001", "08006", "57014")},
    "no code": lambda: OperationalError("connection lost"),
    "interface": lambda: InterfaceError("closed"),
    "kafka": lambda: KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)),
    "dependency": lambda: DependencyDown("says the handler"),
    "dead letter refused": lambda: DeadLetterRefused("says the handler"),
    "fenced": lambda: Fenced("says the handler"),
    "exit": lambda: SystemExit(1),
    "interrupt": KeyboardInterrupt,
    "timeout": lambda: HandlerTimeout("says the handler"),
    "memory": MemoryError,
    "own": lambda: ValueError("no"),
}


@pytest.fixture(autouse=True)
def service(settings):
    settings.SERVICE_DATABASE = "users"
    settings.CONSUMER_BATCH_SIZE = 500
    settings.CONSUMER_STOP_AFTER_KEYS = 10
    settings.RETRY_ATTEMPTS = 8
    settings.HANDLER_TIMEOUT_SECONDS = 30.0


@given(
    kinds=st.lists(st.sampled_from(sorted(RAISED)), min_size=1, max_size=9),
    places=st.lists(st.integers(0, 299), min_size=9, max_size=9, unique=True),
    batch=st.sampled_from([1, 7, 50, 500]),
    trickle=st.booleans(),
)
@example(kinds=["55P03"], places=list(range(9)), batch=500, trickle=False)
@settings(max_examples=25)
def test_whatever_a_handler_raises_others_wait_at_most_two_seconds(kinds, places, batch, trickle):
    """Some of 300 keys raise, each at every try. Afterwards others come, one a second, for a minute and more."""
    from django.conf import settings as django

    django.CONSUMER_BATCH_SIZE = batch
    bad = dict(zip(places, kinds, strict=False))
    first = [(n * 0.01 if trickle else 0.0, record(n, f"k{n}")) for n in range(300)]
    later = [(5.0 + n, record(1_000 + n, f"later{n}")) for n in range(150)]
    behind = [(4.0, record(500 + n, f"k{n}")) for n in bad]

    def behaviour(one, tries, now):
        return RAISED[bad[one.offset]]() if one.offset in bad else EACH

    simulation = Simulation(behaviour, first + behind + later)
    with clock(simulation):
        simulation.run(until=400)
    came = {one: at for at, one in simulation.arrivals}
    assert {one.offset for one in simulation.dead} == set(bad)
    assert len(simulation.done) == 300 + 150
    others = [one for one in simulation.done if one.key.decode() not in {f"k{n}" for n in bad}]
    waited = max(simulation.done[one] - simulation.start - came[one] for one in others)
    assert waited < 2.0 + 300 * (EACH + 0.01), "no other key was held up"
    simulation.check_order()


@given(
    raised=st.sampled_from(["08006", "no code", "57P01", "interface"]),
    away=st.floats(0.1, 60.0),
    size=st.integers(1, 500),
    attempts=st.integers(1, 8),
)
@settings(max_examples=20)
def test_an_unavailable_dependency_counts_no_attempt(raised, away, size, attempts):
    from django.conf import settings as django

    django.RETRY_ATTEMPTS = attempts
    simulation = Simulation(
        lambda one, tries, now: EACH if simulation.reachable(now) else RAISED[raised](),
        [(n / 100, record(n, f"k{n % 50}")) for n in range(size)],
    )
    back = simulation.start + 1 + away
    simulation.reachable = lambda now: not simulation.start + 1 <= now < back
    with clock(simulation):
        simulation.run(until=300)
    assert not simulation.dead
    assert len(simulation.done) == size
    assert {one.attempts for one in simulation.done} == {0}
    late = max(simulation.done.values()) - max(back, simulation.start + size / 100)
    assert late < 2.5 + size * 2 * (EACH + 0.002), "it noticed that it is back"
    simulation.check_order()


def hangs(*offsets):
    return lambda one, tries, now: 1e9 if one.offset in offsets else EACH


@given(
    places=st.lists(st.integers(0, 999), min_size=3, max_size=3, unique=True),
    every=st.sampled_from([0.0, 0.001, 0.01]),
    more=st.integers(0, 500),
)
@example(places=[0, 1, 2], every=0.0, more=300)
@example(places=[0, 500, 999], every=0.0, more=0)
@example(places=[773, 774, 775], every=0.01, more=30)
@settings(max_examples=20)
def test_three_hanging_keys_of_a_thousand(places, every, more):
    """At the default limit of 30 s. Others come all the time, for as long as the three are there."""
    thousand = [(n * every, record(n, f"k{n}")) for n in range(1_000)]
    later = [(20.0 + n, record(2_000 + n, f"later{n}")) for n in range(more)]
    simulation = Simulation(hangs(*places), thousand + later)
    with clock(simulation):
        simulation.run(until=3_600)
    assert {one.offset for one in simulation.dead} == set(places)
    assert len(simulation.done) == 997 + more
    others = [at for one, at in simulation.done.items() if one.offset < 1_000]
    assert max(others) - simulation.start < 3 * 30
    # If the three are neighbours, the first takes a full limit alone, and each of the others a short one of a second.
    assert simulation.longest_gap(lambda one: True) < 30 + 2 * SHORT_SECONDS + 0.5
    assert {one.attempts for one in simulation.dead} == {3}
    assert max(simulation.dead.values()) - simulation.start < 15 * 60
    simulation.check_order()


@given(takes=st.floats(2.0, 25.0), count=st.integers(1, 12))
@settings(max_examples=20)
def test_a_handler_that_is_slow_for_all_events_succeeds(takes, count):
    """So much for each event: a batch hits the limit, one alone does not. It is slow, and nobody is wronged."""
    simulation = Simulation(lambda *_: takes, [(0.0, record(n, f"k{n}")) for n in range(count)])
    with clock(simulation):
        simulation.run(until=3_600)
    assert not simulation.dead
    assert len(simulation.done) == count
    assert max(simulation.done.values()) - simulation.start < 150 + 4 * count * takes


def test_one_slow_event_among_fast_ones_succeeds():
    simulation = Simulation(
        lambda one, tries, now: 10.0 if one.offset == 100 else EACH,
        [(n * 0.01, record(n, f"k{n}")) for n in range(3_000)],
    )
    with clock(simulation):
        simulation.run(until=600)
    assert not simulation.dead
    assert len(simulation.done) == 3_000
    simulation.check_order()


def test_after_enough_successes_the_limit_is_reset():
    """Careful batches are small; they grow, and at last nothing is careful any more."""
    simulation = Simulation(hangs(5), [(n * 0.001, record(n, f"k{n}")) for n in range(20_000)])
    with clock(simulation):
        simulation.run(until=3_600)
        assert simulation.dead
        simulation.arrive(*(record(50_000 + n, f"k{n}") for n in range(30_000)))
        simulation.run(until=7_200)
        assert not simulation.triage._pace.careful
    assert len(simulation.done) == 19_999 + 30_000


SLOW = {"hangs", "57014"}
"""Failures that take a time limit."""


class TestStopTheLine:
    """A handler that fails for all events."""

    @given(
        # Not mixed: while most keys take a time limit each, one that fails at once may have used its attempts before ten have failed.
        kinds=st.lists(st.sampled_from(sorted(RAISED.keys() - SLOW)), min_size=1, max_size=3)
        | st.lists(st.sampled_from(sorted(SLOW)), min_size=1, max_size=3),
        repaired=st.floats(5.0, 100.0),
        batch=st.sampled_from([1, 50, 500]),
        every=st.sampled_from([0.0, 0.01]),
        attempts=st.integers(6, 8),
    )
    @settings(max_examples=20)
    def test_dead_letters_nothing_and_resumes(self, kinds, repaired, batch, every, attempts):
        from django.conf import settings as django

        django.CONSUMER_BATCH_SIZE, django.RETRY_ATTEMPTS = batch, attempts
        events = [(n * every, record(n, f"k{n % 300}")) for n in range(2_000)]
        other = [(n * 0.5, record(n, f"o{n}", topic="other")) for n in range(100)]

        def behaviour(one, tries, now):
            if one.topic == "other" or now - simulation.start > repaired:
                return EACH
            kind = kinds[one.offset % len(kinds)]
            return 1e9 if kind == "hangs" else RAISED[kind]()

        simulation = Simulation(behaviour, events + other)
        with clock(simulation):
            simulation.run(until=repaired - 0.1)  # the last attempt ends a little later, and must not succeed
            stopped = simulation.triage.stopping.topics
            simulation.run(until=repaired + 600)
        # Each of these costs a time limit, or a wait for a database that may be slow: ten keys take longer than that.
        assert stopped == ["user.created"] or SLOW & set(kinds)
        assert not simulation.dead
        assert len(simulation.done) == 2_100
        assert simulation.triage.stopping.topics == []
        assert simulation.backlog.held(("user.created", 0)) == (0, 0)
        simulation.check_order()

    @given(poison=st.integers(19, 400), batch=st.sampled_from([1, 7, 50, 500]))
    @settings(max_examples=20)
    def test_unreadable_events_wait_until_one_can_be_read(self, poison, batch):
        """Only then they are poison; without it, it is the reader that is broken."""
        from django.conf import settings as django

        django.CONSUMER_BATCH_SIZE = batch
        bad = [record(n, f"k{n}") for n in range(poison)]
        for one in bad:
            one.value = None
        simulation = Simulation(lambda *_: EACH, [(0.0, one) for one in bad])
        with clock(simulation):
            simulation.run(until=30)
            assert len(simulation.dead) < 10
            assert simulation.triage.stopping.topics == ["user.created"]
            simulation.arrive(record(10_000, "good"))
            simulation.run(until=90)
        assert len(simulation.done) == 1
        assert len(simulation.dead) == poison
        assert simulation.triage.stopping.topics == []

    def test_a_burst_of_poison_among_valid_events_is_dead_lettered(self):
        events = [record(n, f"k{n}") for n in range(1_000)]
        for one in events[100:200]:
            one.value = None
        simulation = Simulation(lambda *_: EACH, [(0.0, one) for one in events])
        with clock(simulation):
            simulation.run(until=10)
        assert (len(simulation.done), len(simulation.dead)) == (900, 100)

    @given(
        poison=st.integers(10, 400),
        good=st.integers(1, 400),
        place=st.sampled_from(["before", "after", "among"]),
        raised=st.sampled_from(["own", "exit", "55P03", "dependency"]),
    )
    @example(poison=400, good=1, place="before", raised="own")
    @example(poison=400, good=400, place="before", raised="55P03")
    @example(poison=400, good=400, place="among", raised="dependency")
    @settings(max_examples=20)
    def test_any_number_of_poisonous_keys_holds_up_no_other_key(self, poison, good, place, raised):
        """Handlers that fail for some keys are not broken: the topic may be stopped, but the others get through at once."""
        first = {"before": 0, "after": good, "among": 0}[place]
        step = 2 if place == "among" else 1
        bad = set(range(first, first + poison * step, step))
        events = [(0.0, record(n, f"k{n}")) for n in range(poison * step + good)]
        later = [(60.0 + n, record(10_000 + n, f"later{n}")) for n in range(60)]

        def behaviour(one, tries, now):
            return RAISED[raised]() if one.offset in bad else EACH

        simulation = Simulation(behaviour, events + later)
        with clock(simulation):
            simulation.run(until=55)
            assert {one.offset for one in simulation.done} == {one.offset for _, one in events} - bad
            simulation.run(until=400)
        came = {one: at for at, one in simulation.arrivals}
        waited = {one: at - simulation.start - came[one] for one, at in simulation.done.items()}
        # Each failed attempt costs a transaction and a probe of the dependency: eight that count, one that does not since no
        # other event has succeeded yet, and two that split a batch.
        failed = len(bad) * (8 + 1 + 2) * 2 * OVERHEAD
        assert max(waited.values()) < 2.0 + failed + len(events) * (EACH + OVERHEAD)
        assert {one.offset for one in simulation.dead} <= bad
        simulation.check_order()

    def test_off(self, settings):
        settings.CONSUMER_STOP_AFTER_KEYS = 0
        simulation = Simulation(lambda *_: ValueError("no"), [(0.0, record(n, f"k{n}")) for n in range(40)])
        with clock(simulation):
            simulation.run(until=600)
        assert len(simulation.dead) == 40
