"""SIGTERM to each kind of process, whatever it is doing: it exits in time, by itself, and nothing is lost.

The exit status is 0 once the signal handler is set, which a process does first. Before that, while Python starts and, in a
web process, gunicorn is loaded, the signal terminates the process immediately (-15, or 143 in a shell).
"""

import os
import signal
import uuid

import pytest

from tests.acceptance.harness import KNOWN, Member
from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
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
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    done = "SELECT count(*) FROM orders WHERE user_id = ANY(%s)"
    eventually(lambda: system.rows("orderdb", done, users)[0][0] > 0)

    assert statuses(system.members.values()) == dict.fromkeys(KNOWN, 0)

    system.restore()
    settle(system, topics)
    check(system, topics, users)


def test_an_idle_consumer_leaves_the_group_immediately(system, topics):
    """Nobody waits for a session to end, which here would take five minutes."""
    consumers = ["orders-consume", "orders-consume-1"]
    system.start(*consumers, CONSUMER_SESSION_TIMEOUT_SECONDS="300")
    for name in consumers:
        eventually(lambda name=name: system[name].metric("events_consumer_assigned_partitions") > 0)

    assert statuses([system["orders-consume"]]) == {"orders-consume": 0}

    eventually(lambda: system["orders-consume-1"].metric("events_consumer_assigned_partitions") == 12)


def test_after_a_handler_replaced_the_signal_handler(system, topics):
    """As a library might: the process restores it, reports it and ends as usual; also if a thread was left behind."""
    names = ["orders-consume", "payments-consume"]
    members = [member for name in names for member in system.start(name, fault="handlers-take-signals")]
    users = []
    for way in ("default", "ignored", "another", "blocked", "inc", "thread"):
        users.append(f"{way}-{uuid.uuid4()}")
        topics.send(*wire(user_created(users[-1])))
        settle(system, topics)
    for member in members:
        lines = member.logged("the handling of a signal was changed; restored, since this process needs it to stop")
        wanted = ["SIG_DFL", "SIG_IGN", "handlers_take_signals.<locals>.<lambda>.<locals>.<lambda>", "blocked"]
        assert [(line["signal"], line["was"]) for line in lines] == [("SIGTERM", was) for was in wanted]
        eventually(lambda member=member: member.handles(signal.SIGTERM))

    assert statuses(members) == dict.fromkeys(names, 0)
    assert all(member.logged("left the group") for member in members)
    for member in members:
        [line] = member.logged("threads that were left behind keep this process from ending; ended without them")
        assert line["threads"] == ["left-behind"]
    system.restore()
    check(system, topics, users)


def test_a_signal_that_a_handler_catches_is_not_lost(system, topics):
    """Its batch is completed, and then the process ends as usual."""
    names = ["orders-consume", "payments-consume"]
    members = [member for name in names for member in system.start(name, fault="handlers-take-signals")]
    users = [f"caught-{uuid.uuid4()}"]
    topics.send(*wire(user_created(users[0])))
    assert {member.name: member.ended() for member in members} == dict.fromkeys(names, 0)
    assert all(member.logged("left the group") for member in members)
    system.restore()
    settle(system, topics)
    check(system, topics, users)


MOMENTS = {
    "at once": lambda member: True,
    "with its first handler": lambda member: member.handles(signal.SIGTERM),
    "after 0.15 s of its processor": lambda member: member.cpu_seconds() > 0.15,
    "after 0.4 s": lambda member: member.cpu_seconds() > 0.4,
    "after 0.7 s": lambda member: member.cpu_seconds() > 0.7,
}
"""Somewhere on the way from the first instruction to readiness: a sample; what is right then, each process is asked itself."""


def asked_to_end(member: Member) -> int:
    """Ask it, and return the exit status that is right: it stands still while it is looked at, so the answer stays true."""
    os.kill(member.pid, signal.SIGSTOP)
    eventually(member.is_frozen, every=0)
    right = 0 if member.handles(signal.SIGTERM) else -signal.SIGTERM
    member.terminate()
    os.kill(member.pid, signal.SIGCONT)
    return right


@pytest.mark.parametrize("moment", MOMENTS)
def test_while_they_start(harness, topics, moment):
    users = new_ids(50)
    harness.end(list(harness.members))
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    starting = [harness.spawn(name, fresh=True) for name in KNOWN]
    right: dict[str, int] = {}

    def ask() -> bool:
        for member in starting:
            if member.name not in right and (MOMENTS[moment](member) or member.ready()):
                right[member.name] = asked_to_end(member)
        return len(right) == len(starting)

    eventually(ask, within=120, every=0.002)

    assert {member.name: member.ended() for member in starting} == right
    if moment == "with its first handler":
        assert set(right.values()) == {0}
    if moment in ("at once", "after 0.7 s"):  # the account takes longer than all else
        harness.restore()
        settle(harness, topics)
        check(harness, topics, users)
