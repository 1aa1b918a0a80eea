"""A single consumer that loses its database leaves its group to the others; if all lose it, all return with it."""

import time

import pytest

from chaos.proxy import Links
from embedded import ports
from embedded.ports import HOST
from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

PARTITIONS = 12
"""Of the two topics that orders consumes."""


def assigned(member) -> int:
    return int(member.metric("events_consumer_assigned_partitions"))


def has_left(member) -> bool:
    status, body = member.readiness()
    return status == 503 and "until the database responds" in body["parts"]["group"].get("reason", "")


def left(member) -> int:
    """How often a process has said that it leaves; its log also has what it said in an earlier life."""
    return len(member.logged("leaving the group until the database responds: another replica may reach it"))


def returned(member) -> int:
    return len(member.logged("rejoining the group: the database is back"))


def test_one_alone(system, topics):
    postgres = system.engines.postgres
    users = new_ids(300)
    with Links() as links:
        link = links.add("lost>db", ports.free(1)[0], postgres.port)
        address = postgres.url("orderdb").replace(f"{HOST}:{postgres.port}", f"{HOST}:{link.port}")
        [lost] = system.start("orders-consume-1", ORDERS_DATABASE_URL=address)
        other = system["orders-consume"]
        eventually(lambda: assigned(lost) == assigned(other) == PARTITIONS // 2)

        link.cut()
        for user_id in users:
            topics.send_later(*wire(user_created(user_id)))
        topics.flush()
        began = time.monotonic()
        eventually(lambda: has_left(lost) and assigned(lost) == 0, what="it leaves")
        eventually(lambda: assigned(other) == PARTITIONS, what="the other has all partitions")
        settle(system, topics)
        print(f"all was handled by the other after {time.monotonic() - began:.1f} s")
        check(system, topics, users)
        assert lost.alive

        link.heal()
        eventually(lambda: assigned(lost) == assigned(other) == PARTITIONS // 2, what="it returns")
        eventually(lost.ready)
        more = new_ids(50)
        for user_id in more:
            topics.send_later(*wire(user_created(user_id)))
        settle(system, topics)
        check(system, topics, more)
        assert (left(lost), returned(lost)) == (1, 1)
        system.end(["orders-consume-1"])


def test_all_together(system, topics, postgres):
    """Nobody flaps: they leave once, and return once, and about as soon as if they had stayed."""
    [second] = system.start("orders-consume-1")
    both = [system["orders-consume"], second]
    eventually(lambda: [assigned(one) for one in both] == [PARTITIONS // 2] * 2)
    users = new_ids(120)
    before = [(left(one), returned(one)) for one in both]
    postgres.stop()
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    for one in both:
        eventually(lambda one=one: has_left(one), within=60, what=f"{one.name} leaves")

    postgres.restart()
    began = time.monotonic()
    for one in both:
        eventually(one.ready, within=20, what=f"{one.name} is ready again")
    print(f"ready after {time.monotonic() - began:.1f} s")
    settle(system, topics)
    check(system, topics, users)
    assert [(left(one), returned(one)) for one in both] == [(went + 1, came + 1) for went, came in before]
