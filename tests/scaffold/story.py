"""Tests of the system with two new services; `test_service.py` runs them in a clone in which they were generated.

`zstock` has a database, `zaudits` has none; both consume `order.created`. The name has no `test_`, since the repository
itself has no such services.
"""

import os
import signal

import httpx2
import pytest

from tests.acceptance.fixtures import HARNESS, harness, pytest_runtest_makereport, system
from tests.acceptance.topics import Topics
from tests.waiting import eventually

__all__ = ["HARNESS", "harness", "pytest_runtest_makereport", "system"]

LOCK = 20_261_129
# A constraint that is checked at COMMIT, where the consumer's transaction waits while the test holds a lock.
HOLD_COMMITS = f"""
CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT ON zstock DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION hold_commit();
"""
RELEASE_COMMITS = "DROP TRIGGER hold_commit ON zstock; DROP FUNCTION hold_commit"
WAITS_AT_COMMIT = """
SELECT pid FROM pg_stat_activity WHERE datname = 'zstockdb' AND wait_event_type = 'Lock' AND wait_event = 'advisory'
"""
TOPICS = ("order.created", "zstock.created", "zaudit.created")


@pytest.fixture
def topics(harness):
    with Topics(harness.engines.kafka.bootstrap_servers, TOPICS) as topics:
        yield topics


@pytest.fixture
def commits(system):
    """A connection that can delay the commits of zstockdb."""
    with system.database("zstockdb") as connection:
        connection.execute(HOLD_COMMITS)
        try:
            yield connection
        finally:
            connection.execute("SELECT pg_advisory_unlock_all()")
            connection.execute(RELEASE_COMMITS)


def order_of(system, user_id: str) -> dict:
    return eventually(lambda: system.client.get("/api/orders", params={"userId": user_id}).json()["results"])[0]


def entries_of(system, order: dict) -> list[dict]:
    return system.client.get("/api/zstock", params={"orderId": order["id"]}).json()["results"]


def test_an_order_reaches_both_services_once_though_they_are_killed(system, topics, commits):
    """zstock is killed between its commit and the commit of its offset, zaudits before it starts processing."""
    commits.execute(f"SELECT pg_advisory_lock({LOCK})")
    os.kill(system["zaudits-consume"].pid, signal.SIGSTOP)

    user = system.client.post("/api/users", json={"email": "ada@example.org", "name": "Ada"}).json()
    order = order_of(system, user["id"])
    eventually(lambda: system.rows("zstockdb", WAITS_AT_COMMIT), what="the consumer of zstock is about to commit")
    os.kill(system["zstock-consume"].pid, signal.SIGSTOP)
    commits.execute("SELECT pg_advisory_unlock_all()")
    eventually(lambda: entries_of(system, order), what="the commit of zstock")
    for name in ("zstock-consume", "zaudits-consume"):
        system[name].kill9()
    system.start("zstock-consume", "zaudits-consume")

    for name in ("zstock", "zaudits"):
        eventually(lambda name=name: topics.processed(name, "order.created"), what=f"{name} has processed the order")
    assert len(system["zstock-consume"].logged("duplicate event skipped")) == 1
    [entry] = entries_of(system, order)
    assert entry["name"] == f"order {order['id']}"
    assert system.rows("zstockdb", "SELECT count(*) FROM inbox WHERE key = %s", order["id"]) == [(1,)]
    eventually(lambda: topics.of("zstock.created", zstockId=entry["id"]), what="the event of zstock")
    [event] = topics.of("zaudit.created", orderId=order["id"])
    assert event.header("requestId") == topics.of("order.created", orderId=order["id"])[0].header("requestId")
    assert len({record.id for record in topics.of("zstock.created", zstockId=entry["id"])}) == 1


def test_its_api_is_at_the_gateway_and_in_the_documents(system):
    made = system.client.post("/api/zstock", json={"name": "tea"}, headers={"Idempotency-Key": "tea-1"})
    again = system.client.post("/api/zstock", json={"name": "tea"}, headers={"Idempotency-Key": "tea-1"})
    assert (made.status_code, again.json()) == (201, made.json())
    assert made.headers["Location"] == f"/api/zstock/{made.json()['id']}"

    read = system.client.get(made.headers["Location"])
    assert read.json() == made.json()
    same = system.client.get(made.headers["Location"], headers={"If-None-Match": read.headers["ETag"]})
    assert same.status_code == 304
    wrong = system.client.post("/api/zstock", json={"name": ""})
    assert (wrong.status_code, wrong.headers["Content-Type"]) == (400, "application/problem+json")

    paths = system.client.get("/api/schema", headers={"Accept": "application/json"}).json()["paths"]
    assert {"/api/zstock", "/api/zstock/{id}"} <= set(paths)
    channels = system.client.get("/api/asyncapi").json()["channels"]
    assert {"zstock.created", "zaudit.created"} <= set(channels)


def test_health_metrics_and_admin(system):
    gateway = system["gateway"].readiness()
    assert gateway[0] == 200
    assert {"zstock", "zaudits"} <= set(gateway[1]["parts"])

    names = ("zstock", "zstock-relay", "zstock-consume", "zaudits", "zaudits-consume")
    for name in names:
        assert system[name].ready()
        assert httpx2.get(f"{system.url(name)}/metrics").status_code == 200
    assert httpx2.get(f"{system.url('zstock')}/admin/login/").status_code == 200
