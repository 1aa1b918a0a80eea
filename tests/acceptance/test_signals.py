"""SIGTERM to each kind of process, whatever it is doing: it ends in time, by itself, with exit status 0."""

import time

import pytest

from tests.acceptance.books import check, new_ids, settle, user_created, wire
from tests.acceptance.stand import KNOWN
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance


def statuses(members) -> dict[str, int]:
    """Ask all of these to end, at once; how each has."""
    for member in members:
        member.terminate()
    return {member.name: member.ended() for member in members}


def test_while_they_work(system, topics):
    users = new_ids(300)
    for user_id in users:
        topics.send_soon(*wire(user_created(user_id)))
    topics.flush()
    done = "SELECT count(*) FROM orders WHERE user_id = ANY(%s)"
    eventually(lambda: system.rows("orderdb", done, users)[0][0] > 0)

    assert statuses(system.members.values()) == dict.fromkeys(KNOWN, 0)

    system.whole()
    settle(system, topics)
    check(system, topics, users)


def test_while_idle_the_group_is_left_at_once(system, topics):
    """Nobody waits for a session to end: with another consumer there, its partitions are worked on within a second or so."""
    system.start("orders-consume-1")
    eventually(lambda: system["orders-consume-1"].metric("events_consumer_assigned_partitions") > 0)

    assert statuses([system["orders-consume"]]) == {"orders-consume": 0}

    asked = time.monotonic()
    eventually(lambda: system["orders-consume-1"].metric("events_consumer_assigned_partitions") == 12)
    assert time.monotonic() - asked < 4


@pytest.mark.parametrize("worked", [0.15, 0.35, 0.55, 0.75])
def test_while_they_start(stand, worked):
    """Counted in seconds of the processor, of which each needs about one until it is ready, so that a slow machine is no slower."""
    stand.end(list(stand.members))
    starting = [stand.spawn(name) for name in KNOWN]
    asked = []

    def ask() -> bool:
        for member in [member for member in starting if member not in asked]:
            if member.cpu_seconds() < worked and not member.ready():
                continue
            member.terminate()
            asked.append(member)
        return len(asked) == len(starting)

    eventually(ask, every=0.005)

    assert {member.name: member.ended() for member in asked} == dict.fromkeys(KNOWN, 0)
