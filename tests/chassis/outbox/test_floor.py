"""The relay's floor hides no row that is or will be committed, and makes the cost of a search independent of sent rows."""

import json
import threading
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.health import checks
from chassis.outbox import gauges
from chassis.outbox import rows as outbox_rows
from chassis.outbox.floor import Floor
from chassis.outbox.wakeup import Wakeup
from tests.chassis.support.sessions import connect, old_snapshot, publish, session
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)

UNSENT = outbox_rows.unsent(wait=True)


def bounds(floor: int, rows: int = 1000) -> dict[str, int]:
    return {"floor": floor, "rows": rows, "bytes": 8_000_000, "largest": 16_000_000}


class Taker:
    """What the relay does with its table, step by step and without a broker: rescan, rise, take, mark."""

    def __init__(self) -> None:
        self.connection = connections["users"].copy()
        with self.connection.cursor():
            self.wakeup, self.floor = Wakeup(self.connection), Floor()
        self.wakeup.begin()
        self.sent: list[int] = []

    def rise(self) -> int:
        if self.wakeup.rescan():
            self.floor.reset()
        self.floor.sent(1_000_000)  # it is always time to
        with self.connection.cursor() as cursor:
            self.floor.rise(cursor)
        return self.floor.position

    def see(self, position: int, limit: int = 1000) -> list[int]:
        with self.connection.cursor() as cursor:
            cursor.execute(UNSENT, bounds(position, limit))
            return [row[0] for row in cursor.fetchall()]

    def take(self, limit: int = 1000) -> list[int]:
        self.rise()
        rows = self.see(self.floor.position, limit)
        with self.connection.cursor() as cursor:
            cursor.execute(outbox_rows.MARK, [rows])
        self.sent += rows
        return rows


@pytest.fixture
def taker():
    found = Taker()
    yield found
    found.connection.close()


@pytest.fixture
def sessions():
    """Three publishers, each with a transaction of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(session(autocommit=False)) for _ in range(3)]


def settle(taker: Taker) -> int:
    for _ in range(3):
        taker.take()
    return taker.rise()


def test_it_rises_over_sent_rows_and_gaps(taker, sessions):
    first, second, _ = sessions
    publish(first, 5)
    first.rollback()
    positions = publish(second, 5)
    second.commit()
    assert settle(taker) == positions[-1]


def test_it_waits_for_transactions_that_may_commit_below(taker, sessions):
    late, early, _ = sessions
    [below] = publish(late)
    [above] = publish(early)
    early.commit()
    assert settle(taker) < below
    assert taker.sent == [above]
    late.commit()
    assert taker.take() == [below]
    assert settle(taker) == above


def test_it_does_not_wait_for_later_transactions(taker, sessions):
    """So a service that always has some transaction open does not hold it back."""
    first, second, third = sessions
    publish(first)
    [highest] = publish(second)
    second.commit()
    taker.rise()  # the first is noted
    publish(third)
    first.commit()
    taker.take()
    assert taker.rise() >= highest - 1


def test_a_transaction_that_writes_elsewhere_does_not_hold_the_floor(taker, sessions):
    elsewhere, publisher, _ = sessions
    elsewhere.execute("INSERT INTO idempotency_keys (key, fingerprint) VALUES (gen_random_uuid(), 'x')")
    elsewhere.execute("SELECT 1 FROM outbox")
    [position] = publish(publisher)
    publisher.commit()
    assert settle(taker) == position


def test_an_unsent_row_holds_the_floor(taker, sessions):
    publisher, *_ = sessions
    positions = publish(publisher, 3)
    publisher.commit()
    publisher.execute("UPDATE outbox SET parked_at = now() WHERE position = %s", [positions[1]])
    publisher.commit()
    assert (settle(taker), taker.sent) == (positions[0], [positions[0]])  # the parked one is for a person to decide
    publisher.execute("UPDATE outbox SET discarded_at = now() WHERE position = %s", [positions[1]])
    publisher.commit()
    assert settle(taker) == positions[2]


def test_a_retried_row_is_seen_with_the_later_rows_of_its_key_before_the_relay_is_notified(taker, sessions):
    publisher, *_ = sessions
    sent, retried, later = publish(publisher, 3)
    publisher.commit()
    publisher.execute("UPDATE outbox SET parked_at = now() WHERE position = %s", [retried])
    publisher.commit()
    settle(taker)
    publisher.execute("UPDATE outbox SET parked_at = NULL WHERE position = %s", [retried])
    publisher.commit()
    assert taker.sent == [sent]
    assert taker.see(taker.floor.position) == [retried, later]


def test_the_second_parked_row_holds_the_floor_once_the_first_is_decided(taker, sessions):
    publisher, *_ = sessions
    positions = publish(publisher, 6)
    publisher.execute("UPDATE outbox SET parked_at = now() WHERE position = ANY(%s)", [[positions[1], positions[4]]])
    publisher.execute("UPDATE outbox SET discarded_at = now() WHERE position = %s", [positions[1]])
    publisher.commit()
    assert settle(taker) < positions[4]
    publisher.execute("UPDATE outbox SET discarded_at = now() WHERE position = %s", [positions[4]])
    publisher.commit()
    assert settle(taker) == positions[-1]


def test_rows_to_be_resent_are_found_below_the_floor(taker, sessions):
    publisher, *_ = sessions
    positions = publish(publisher, 3)
    publisher.commit()
    assert settle(taker) == positions[-1]
    publisher.execute("UPDATE outbox SET sent_at = NULL WHERE position = %s", [positions[0]])
    publisher.commit()
    eventually(lambda: taker.take() == [positions[0]], what="the notification has come")
    assert settle(taker) == positions[-1]


def test_a_sequence_cached_by_sessions_provides_no_floor(taker, sessions):
    publisher, *_ = sessions
    with connections["users"].cursor() as cursor:
        cursor.execute("ALTER SEQUENCE outbox_position_seq CACHE 10")
        try:
            publish(publisher)
            publisher.commit()
            assert settle(taker) == 0
        finally:
            cursor.execute("ALTER SEQUENCE outbox_position_seq CACHE 1")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["publish", "publish", "publish", "savepoint", "undo", "commit", "commit", "rollback",
             "take", "take", "rise", "resend", "park", "retry"]
        ),
        st.integers(0, 2),
        st.integers(1, 3),
    ),
    min_size=10,
    max_size=60,
)  # fmt: skip


class Story:
    """Publishers with transactions that overlap, a relay between them, and people who have rows sent again."""

    def __init__(self) -> None:
        self.taker = Taker()
        self.publishers = [connect(autocommit=False) for _ in range(3)]
        self.person = connect()
        self.marks: list[int] = [0, 0, 0]
        self.again: dict[int, int] = {}

    def play(self, steps: Any) -> None:
        for step, number, count in steps:
            getattr(self, step)(number, count)
            hidden = set(self.taker.see(0)) - set(self.taker.see(self.taker.floor.position))
            assert not hidden or self.rescan_is_on_its_way(), f"rows {hidden} are below the floor"

    def rescan_is_on_its_way(self) -> bool:
        """It is said at the commit that makes a row unsent again, so the relay has it before it looks the next time."""
        if found := self.taker.wakeup.rescan():
            self.taker.floor.reset()
        return found

    def publish(self, number: int, count: int) -> None:
        publish(self.publishers[number], count)

    def savepoint(self, number: int, _: int) -> None:
        self.publishers[number].execute("SAVEPOINT s")
        self.marks[number] += 1

    def undo(self, number: int, _: int) -> None:
        if self.marks[number]:
            self.publishers[number].execute("ROLLBACK TO s")

    def commit(self, number: int, _: int) -> None:
        self.publishers[number].commit()
        self.marks[number] = 0

    def rollback(self, number: int, _: int) -> None:
        self.publishers[number].rollback()
        self.marks[number] = 0

    def take(self, _: int, count: int) -> None:
        self.taker.take(count)

    def rise(self, *_: int) -> None:
        self.taker.rise()

    def resend(self, *_: int) -> None:
        query = "UPDATE outbox SET sent_at = NULL WHERE position = (SELECT min(position) FROM outbox WHERE sent_at IS NOT NULL)"
        for (position,) in self.person.execute(query + " RETURNING position"):
            self.again[position] = self.again.get(position, 0) + 1

    def park(self, *_: int) -> None:
        self.person.execute(
            "UPDATE outbox SET parked_at = now() WHERE position ="
            " (SELECT min(position) FROM outbox WHERE sent_at IS NULL AND parked_at IS NULL)"
        )

    def retry(self, *_: int) -> None:
        self.person.execute("UPDATE outbox SET parked_at = NULL WHERE parked_at IS NOT NULL")

    def end(self) -> None:
        """Everything commits, nothing stays parked, and the relay looks until it finds nothing."""
        for publisher in self.publishers:
            publisher.commit()
        self.retry()
        self.person.execute("SELECT 1")
        while self.taker.take():
            pass
        committed = {position for (position,) in self.person.execute("SELECT position FROM outbox")}
        wanted = sorted([*committed, *(p for p, times in self.again.items() for _ in range(times))])
        assert sorted(self.taker.sent) == wanted, (
            "each committed row once, and once more for each time that was asked for"
        )
        assert self.taker.rise() == max(committed, default=self.taker.floor.position)

    def close(self) -> None:
        for connection in (*self.publishers, self.person, self.taker.connection):
            connection.close()


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_in_any_commit_order_each_row_is_fetched_once(steps):
    with connections["users"].cursor() as cursor:
        cursor.execute("TRUNCATE outbox")
    story = Story()
    try:
        story.play(steps)
        story.end()
    finally:
        story.close()


def test_under_real_concurrency_nothing_is_skipped(taker):
    """Four publishers that commit out of order, as fast as they can, and now and then undo; a relay that never rests."""
    published: list[int] = []

    def work(seed: int) -> None:
        with session(autocommit=False) as connection:
            for turn in range(150):
                positions = publish(connection, 1 + (turn * seed) % 3)
                if (turn + seed) % 5 == 0:
                    connection.rollback()
                else:
                    connection.commit()
                    published.extend(positions)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3, 5)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taker.take(50)
    while taker.take():
        pass
    assert sorted(taker.sent) == sorted(published)
    assert taker.rise() == max(published)


ROWS = 200_000
FILL = """
INSERT INTO outbox (event_id, topic, key, headers, request_id)
SELECT gen_random_uuid(), 't', n::text, '[]', 'r' FROM generate_series(1, %s) AS n
"""


class TestUnderAnOldSnapshot:
    """Sent rows that vacuum cannot remove: repeated queries read as many pages as in a small table."""

    PAGES = 60

    @pytest.fixture
    def sent(self, taker):
        with connections["users"].cursor() as cursor, old_snapshot():
            cursor.execute("SET statement_timeout = 0")  # it takes long on a busy machine
            cursor.execute(FILL, [ROWS])
            cursor.execute("UPDATE outbox SET sent_at = now()")
            cursor.execute("RESET statement_timeout")
            settle(taker)
            cursor.execute(gauges.KEEP_FLOOR, [taker.floor.position])
            cursor.execute(gauges.BY_INDEX)
            yield cursor
            cursor.execute("RESET enable_seqscan")

    @staticmethod
    def pages(cursor, query, values=None) -> int:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", values)
        [(explained,)] = cursor.fetchall()
        [found] = json.loads(explained) if isinstance(explained, str) else explained
        return found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"]

    def test_take_gauges_and_health(self, taker, sent):
        floor = taker.floor.position
        assert self.pages(sent, UNSENT, bounds(0)) > 10 * self.PAGES, "it would be cheap without a floor"
        asked = {
            "take": (UNSENT, bounds(floor)),
            "oldest": (gauges.OLDEST, None),
            "waiting": (gauges.WAITING, {"counted": gauges.COUNTED}),
            "parked": (gauges.PARKED, {"counted": gauges.COUNTED}),
        }
        assert {name: pages for name, one in asked.items() if (pages := self.pages(sent, *one)) > self.PAGES} == {}

    def test_readiness_finds_waiting_rows(self, taker, sent):
        checks.Outbox("users").run()
        sent.execute(FILL, [1])
        sent.execute("UPDATE outbox SET created_at = now() - interval '1 hour' WHERE sent_at IS NULL")
        with pytest.raises(checks.ServiceWarning, match="3600 s"):
            checks.Outbox("users").run()
