"""The schedule depends only on seed and duration, covers everything, and leaves nothing broken."""

from collections import defaultdict

import pytest

from chaos import schedule
from chaos.plan import BadPlan, Plan
from embedded.system import PROCESSES


def test_the_same_seed_makes_the_same_schedule():
    assert schedule.make(7, 120) == schedule.make(7, 120)
    assert schedule.make(7, 120) != schedule.make(8, 120)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_target_has_every_kind_of_fault(seed):
    met = defaultdict(set)
    for fault in schedule.make(seed, 240):
        name, _, number = fault.target.rpartition("-")
        met[name if number.isdigit() else fault.target].add(fault.kind)

    assert all(met[name] == set(schedule.ENGINE_FAULTS) for name in schedule.ENGINES)
    assert all(met[name] == set(schedule.LINK_FAULTS) for name in schedule.LINKS)
    assert all(met[process.name] == set(schedule.PROCESS_FAULTS) for process in PROCESSES)


@pytest.mark.parametrize("seed", range(5))
def test_every_fault_ends_in_time_and_before_the_next_of_its_target(seed):
    free_at = defaultdict(float)
    for fault in schedule.make(seed, 60):
        assert fault.at >= free_at[fault.target]
        free_at[fault.target] = fault.at + fault.seconds

    assert max(free_at.values()) < 60


@pytest.mark.parametrize("seed", range(5))
def test_some_faults_last_longer_than_a_session(seed):
    frozen = [fault.seconds for fault in schedule.make(seed, 240) if fault.kind == "freeze"]

    assert min(frozen) < 3
    assert max(frozen) > 7


def test_the_size_of_a_run_is_read_from_the_environment():
    assert Plan.read({"USERS": "12", "ORDERS": "0", "SEED": "7", "DURATION": "30"}) == Plan(12, 0, 30, 7)
    assert Plan.read({"SEED": "1"}) == Plan(seed=1)


@pytest.mark.parametrize("wrong", [{"USERS": "many"}, {"USERS": "0"}, {"DURATION": "-3"}, {"SEED": "1.5"}])
def test_an_invalid_size_is_rejected_by_name(wrong):
    with pytest.raises(BadPlan, match=next(iter(wrong))):
        Plan.read(wrong)
