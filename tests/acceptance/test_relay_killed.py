"""A relay is killed -9 between the acknowledgement and marking the row: the event is sent twice and processed once."""

import pytest

from tests.acceptance.ledger import check, settle
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

RELAYS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = 'userdb')"
WAITS_TO_MARK = """
SELECT pid FROM pg_stat_activity
WHERE datname = 'userdb' AND wait_event_type = 'Lock' AND starts_with(query, 'UPDATE outbox SET sent_at')
"""


def test_the_duplicate_reaches_no_handler(system, topics):
    system.end(["users-relay"])
    user = system.client.post("/api/users", json={"email": "twice@example.org", "name": "Ada"}).json()

    with system.database("userdb") as hold:
        with hold.transaction():
            # Reading the row is free, so the relay sends it; marking it waits for us.
            [(event_id,)] = hold.execute(
                "SELECT event_id::text FROM outbox WHERE key = %s FOR UPDATE", [user["id"]]
            ).fetchall()
            relay = system.spawn("users-relay", DATABASE_STATEMENT_TIMEOUT_SECONDS="600")
            eventually(lambda: topics.by_id("user.created", event_id), what="the event is on Kafka")
            eventually(lambda: system.rows("userdb", WAITS_TO_MARK), what="the relay waits to mark it")
            relay.kill9()
            # The server looks whether its client is still there; nothing else would end that statement.
            eventually(lambda: not system.rows("userdb", RELAYS), what="the session and its lock are gone")
        sent = hold.execute("SELECT sent_at FROM outbox WHERE event_id = %s", [event_id]).fetchone()
    assert sent == (None,), "the relay had marked the row before it was killed"

    system.start("users-relay")
    settle(system, topics)

    first, second = topics.by_id("user.created", event_id)
    assert (first.value, first.headers, first.key) == (second.value, second.headers, second.key)
    assert first.partition == second.partition
    assert system.rows("orderdb", "SELECT count(*) FROM inbox WHERE event_id = %s", event_id) == [(1,)]
    consumer = system["orders-consume"]
    assert len(consumer.logged("event handled", event_id=event_id)) == 1
    assert len(consumer.logged("duplicate event skipped", event_id=event_id)) == 1
    check(system, topics, [user["id"]])
