"""The consumer of orders is killed -9: between the commits of the database and of the offset, and at any moment under load."""

import os
import random
import signal

import pytest

from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

LOCK = 20_261_123
# A constraint that is checked at COMMIT: there the consumer's transaction waits, for as long as we hold a lock.
HOLD_COMMITS = f"""
CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION hold_commit();
"""
HOLD_NO_MORE = "DROP TRIGGER hold_commit ON orders; DROP FUNCTION hold_commit"
WAITS_AT_COMMIT = """
SELECT pid FROM pg_stat_activity WHERE datname = 'orderdb' AND wait_event_type = 'Lock' AND wait_event = 'advisory'
"""


@pytest.fixture
def commits(system):
    """A connection that can hold the commits of orderdb back."""
    with system.database("orderdb") as connection:
        connection.execute(HOLD_COMMITS)
        try:
            yield connection
        finally:
            connection.execute("SELECT pg_advisory_unlock_all()")
            connection.execute(HOLD_NO_MORE)


def test_killed_between_commit_and_offset(system, topics, commits):
    [user_id] = new_ids(1)
    event = user_created(user_id)
    consumer = system["orders-consume"]
    commits.execute(f"SELECT pg_advisory_lock({LOCK})")

    partition, offset = topics.send(*wire(event))
    eventually(lambda: system.rows("orderdb", WAITS_AT_COMMIT), what="the consumer is about to commit")
    os.kill(consumer.pid, signal.SIGSTOP)
    commits.execute("SELECT pg_advisory_unlock_all()")
    eventually(lambda: system.rows("orderdb", "SELECT 1 FROM orders WHERE user_id = %s", user_id), what="the commit")
    consumer.kill9()  # and never knew that its transaction was committed
    assert topics.committed("orders", "user.created")["user.created", partition] <= offset

    system.start("orders-consume")
    settle(system, topics)

    assert topics.committed("orders", "user.created")["user.created", partition] == offset + 1
    assert len(system["orders-consume"].logged("duplicate event skipped", event_id=event.event_id)) == 1
    assert system.rows("orderdb", "SELECT count(*) FROM inbox WHERE event_id = %s", event.event_id) == [(1,)]
    check(system, topics, [user_id])


def test_killed_repeatedly_under_load(system, topics):
    users = new_ids(1_500)
    chance = random.Random(7)
    system.start("orders-consume", CONSUMER_BATCH_SIZE="20")

    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    done = "SELECT count(*) FROM orders WHERE user_id = ANY(%s)"
    kills = 0
    for _ in range(5):
        [(before,)] = system.rows("orderdb", done, users)
        consumer = system["orders-consume"]
        target = before + chance.randint(20, 200)
        enough = min(target, len(users))
        eventually(lambda enough=enough: system.rows("orderdb", done, users)[0][0] >= enough, every=0.002)
        kills += consumer.alive and system.rows("orderdb", done, users)[0][0] < len(users)
        consumer.kill9()
        system.start("orders-consume", CONSUMER_BATCH_SIZE="20")
    assert kills >= 3, "it was killed with nothing left to do"

    settle(system, topics)
    check(system, topics, users)
    assert system.rows("orderdb", "SELECT count(*) FROM inbox WHERE key = ANY(%s)", users) == [(len(users),)]
