"""An engine fails and recovers: accepted writes take effect, nothing is dead-lettered, no process exits."""

import time

import pytest

from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.outages import HUNG, Supervisor, check_survivors, degraded, running, unready
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

RELAYS = ("users-relay", "orders-relay")
WORKERS = (*RELAYS, "orders-consume", "payments-consume")

FREEZES = 3
FROZEN_SECONDS = 7.0
"""More than the session timeouts of consumers and, in the embedded Kafka, of brokers."""
WITHIN = 400.0
"""Enough for two consumers, one after the other, that are in a call which never returns: each ends its process after 90 s."""


def test_kafka_stopped_during_posts(system, topics, visitors, kafka):
    supervisor = Supervisor(system)
    eventually(lambda: len(visitors.answers) >= 5)

    kafka.stop()
    before = len(visitors.answers)
    eventually(lambda: len(visitors.answers) >= before + 20, what="writes go on without a broker")
    status, users = eventually(lambda: degraded(system["users"]), what="users says what is missing")
    assert (status, users["parts"]["broker"]["status"], users["parts"]["database"]["status"]) == (200, "down", "up")
    assert eventually(lambda: degraded(system["gateway"]))[1]["parts"]["users"]["status"] == "degraded"
    for worker in ("users-relay", "orders-relay", "orders-consume", "payments-consume"):
        eventually(supervisor.sees(lambda worker=worker: unready(system, worker, "broker")), what=f"{worker} says so")

    kafka.restart()
    topics.reconnect()
    back = len(visitors.answers)
    eventually(supervisor.sees(lambda: len(visitors.answers) >= back + 5))
    visitors.end()
    settle(system, topics, meanwhile=supervisor)

    assert {status for status, _ in visitors.answers} == {201}
    # A relay that gave up waiting for acknowledgements sends the rows again, also those that Kafka had written.
    gave_up = [line for name in RELAYS for line in system[name].logged("the relay releases its lock, backing off")]
    check(system, topics, [user_id for _, user_id in visitors.answers], relayed_once=not gave_up)
    # A transaction's call into the Kafka client may hang for ever when the broker goes: its process ends, and says so.
    assert set(supervisor.died) <= {"payments-consume"}, "\n".join(supervisor.ends)
    hung = system["payments-consume"].logged(HUNG)
    assert len(supervisor.died) == len(hung)
    for member in system.members.values():
        eventually(
            lambda member=member: member.readiness()[1]["status"] == "ready", what=f"{member.name} is ready again"
        )


def test_kafka_frozen_for_longer_than_its_sessions(system, topics, kafka):
    """For a moment after it resumes, the cluster counts no broker as alive, and some clients never recover: see ADR 0065."""
    supervisor = Supervisor(system)
    for _ in range(FREEZES):
        kafka.pause()
        try:
            time.sleep(FROZEN_SECONDS)
        finally:
            kafka.resume()
        topics.reconnect()
        users = new_ids(5)
        for user_id in users:
            topics.send(*wire(user_created(user_id)))
        settle(system, topics, within=WITHIN, meanwhile=supervisor)
        check(system, topics, users)
        for name in WORKERS:
            eventually(supervisor.sees(system[name].ready), what=f"{name} is ready again")


def test_postgres_unavailable_for_a_while(system, topics, postgres):
    before = running(system)
    users = new_ids(60)
    for user_id in users[:20]:
        topics.send_later(*wire(user_created(user_id)))

    postgres.stop()
    for user_id in users[20:]:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    for worker in ("users-relay", "orders-relay", "orders-consume"):
        assert eventually(lambda worker=worker: unready(system, worker, "database")), worker
    eventually(lambda: system["orders-consume"].metric("events_dependency_waits_total") >= 3, what="it waits")
    answers = [
        system.client.get("/api/orders"),
        system.client.post("/api/users", json={"email": "a@b.org", "name": "A"}),
    ]

    postgres.restart()
    settle(system, topics)

    for answer in answers:
        assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
    check(system, topics, users)
    check_survivors(system, before)
    for worker in ("users-relay", "orders-relay", "orders-consume"):
        said = [line for line in system[worker].logged() if line["event"].startswith("waiting for the database")]
        assert len(said) <= 3, f"{worker} says the same again and again"
    assert eventually(lambda: system.client.get("/api/orders").status_code == 200)
