"""A sleeping relay is woken by every commit that published; an awake one costs publishers nothing."""

import random
import re
import statistics
import threading
import time

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.outbox.wakeup import SHORTEST_GATHER_SECONDS, SLEEPING, Gathering, Wakeup
from tests.chassis.support.sessions import publish, session
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


@pytest.fixture
def wakeup():
    connection = connections["users"].copy()
    with connection.cursor():
        found = Wakeup(connection)
        found.begin()
    yield found
    connection.close()


@pytest.fixture
def other():
    with session(autocommit=False) as connection:
        yield connection


def holders(mode: str) -> int:
    with connections["users"].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
            " WHERE datname = current_database() AND locktype = 'advisory' AND objid = %s AND mode = %s AND granted",
            [SLEEPING, mode],
        )
        return cursor.fetchone()[0]


def fall_asleep(wakeup) -> None:
    assert wakeup.sleep(0) is False
    assert holders("ExclusiveLock") == 1


def notified(wakeup, seconds=0.0) -> set[str]:
    hear(wakeup)
    return wakeup._notified(seconds)


def hear(wakeup) -> None:
    """PostgreSQL sends what it was told for a session before the session's next answer."""
    with wakeup._connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_the_trigger_uses_the_lock_of_the_relay():
    with connections["users"].cursor() as cursor:
        cursor.execute("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'outbox_notify'")
        [(source,)] = cursor.fetchall()
    assert re.findall(r"pg_try_advisory_xact_lock_shared\(\D*(\d+)", source) == [str(SLEEPING)]


def test_a_commit_does_not_notify_an_awake_relay(wakeup, other):
    publish(other)
    other.commit()
    assert notified(wakeup) == set()


def test_a_commit_wakes_a_sleeping_relay(wakeup, other):
    fall_asleep(wakeup)
    publish(other)
    other.commit()
    before = time.monotonic()
    assert wakeup.sleep(60) is False
    assert time.monotonic() - before < 30


def test_after_waking_it_is_not_notified(wakeup, other):
    fall_asleep(wakeup)
    wakeup.awake()
    publish(other)
    other.commit()
    assert (notified(wakeup), holders("ExclusiveLock")) == (set(), 0)


def test_it_does_not_sleep_while_a_transaction_publishes(wakeup, other):
    publish(other)
    wakeup.sleep(1)
    assert holders("ExclusiveLock") == 0
    other.commit()
    fall_asleep(wakeup)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_rolled_back_savepoint_hides_nothing(wakeup, other, end):
    """The lock that was taken in it is gone with it; what is written after it takes it again, or notifies."""
    other.execute("SAVEPOINT one")
    publish(other)
    other.execute("ROLLBACK TO one")
    # Not at once: PostgreSQL may still be ending the session of the test before.
    eventually(lambda: holders("ShareLock") == 0)
    fall_asleep(wakeup)
    other.execute("SAVEPOINT two")
    publish(other)
    other.execute("ROLLBACK TO two")
    publish(other)
    getattr(other, end)()
    assert notified(wakeup, 5 if end == "commit" else 0) == ({""} if end == "commit" else set())


def test_copy_also_wakes_it(wakeup, other):
    fall_asleep(wakeup)
    with other.cursor().copy("COPY outbox (event_id, topic, key, headers, request_id) FROM STDIN") as copy:
        copy.write_row(("00000000-0000-0000-0000-000000000001", "t", "k", "[]", "r"))
    other.commit()
    assert notified(wakeup, 5) == {""}


@pytest.mark.parametrize(
    "undo",
    [
        "UPDATE outbox SET sent_at = NULL",
        "UPDATE outbox SET parked_at = NULL, sent_at = NULL",
    ],
)
def test_rows_to_be_resent_are_reported(wakeup, other, undo):
    publish(other, 3)
    other.execute(
        "UPDATE outbox SET sent_at = now()" if "parked" not in undo else "UPDATE outbox SET parked_at = now()"
    )
    other.commit()
    hear(wakeup)
    assert wakeup.rescan() is False
    other.execute(undo)
    other.commit()
    hear(wakeup)
    assert wakeup.rescan() is True
    assert wakeup.rescan() is False


def test_the_lock_of_a_relay_that_died_asleep_is_gone(wakeup, other):
    fall_asleep(wakeup)
    wakeup._connection.close()
    publish(other)
    assert holders("ShareLock") == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "savepoint", "undo", "commit", "rollback", "sleep", "take"]), st.integers(0, 2)
    ),
    max_size=40,
)


class TestNoWakeUpIsMissed:
    """In any interleaving of three publishers and a relay: a relay that sleeps with rows to send was notified."""

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(STEPS)
    def test_in_any_order(self, wakeup, steps):
        wakeup.awake()
        notified(wakeup)
        with session(autocommit=False) as a, session(autocommit=False) as b, session(autocommit=False) as c:
            asleep = heard = False
            for step, number in steps:
                publisher = (a, b, c)[number]
                if step == "sleep":
                    armed = wakeup._armed
                    if not asleep:
                        wakeup.sleep(0.0)
                    asleep = armed and asleep
                elif step == "take":
                    asleep = not self.take(wakeup) and wakeup._armed
                    heard = False
                else:
                    self.act(step, publisher)
                if asleep and self.waiting():
                    heard = heard or bool(notified(wakeup, 5))
                    assert heard, "it sleeps, and nothing has woken it"

    @staticmethod
    def act(step, publisher) -> None:
        if step == "publish":
            publish(publisher)
        elif step == "savepoint":
            publisher.execute("SAVEPOINT s")
        elif step == "undo":
            if publisher.info.transaction_status.name == "INTRANS":
                publisher.execute("SAVEPOINT t")
                publish(publisher)
                publisher.execute("ROLLBACK TO t")
        else:
            getattr(publisher, step)()

    @staticmethod
    def waiting() -> int:
        with connections["users"].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
            return cursor.fetchone()[0]

    @staticmethod
    def take(wakeup) -> int:
        """As the relay does: what there is is marked, and with something to send it is awake."""
        with wakeup._connection.cursor() as cursor:
            cursor.execute("UPDATE outbox SET sent_at = now() WHERE sent_at IS NULL")
            found = cursor.rowcount
        if found:
            wakeup.awake()
        return found


def test_active_publishers_are_waited_for_without_spinning(wakeup):
    """Each try to fall asleep beside an open transaction waits a little longer, up to 20 ms."""
    with session(autocommit=False) as other:
        publish(other)
        tries, until = 0, time.monotonic() + 1
        while time.monotonic() < until:
            wakeup.sleep(1)
            tries += 1
    assert tries < 80


def test_many_publishers_and_a_relay_without_polling(wakeup):
    """Threads commit when they like; the relay looks only when it was woken. All is found."""
    wanted, found = 400, 0

    def work() -> None:
        with session(autocommit=False) as connection:
            for _ in range(wanted // 4):
                publish(connection)
                connection.commit()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while found < wanted and time.monotonic() < deadline:
        taken = TestNoWakeUpIsMissed.take(wakeup)
        found += taken
        if not taken:
            wakeup.sleep(60)
    for thread in threads:
        thread.join()
    assert found == wanted


class TestGathering:
    """While rows keep coming, the next search waits for more of them; nothing else does."""

    @pytest.mark.parametrize(("rows", "all_taken"), [(0, True), (0, False), (1, False), (500, False)])
    def test_a_search_waits_only_after_one_that_found_and_took_all(self, rows, all_taken):
        gathering = Gathering(lambda: 0.0)
        assert gathering.seconds() == 0
        gathering.searched(1, all_taken=True)
        assert gathering.seconds() == SHORTEST_GATHER_SECONDS
        gathering.searched(rows, all_taken=all_taken)
        assert gathering.seconds() == 0

    @pytest.mark.parametrize(("rows", "seconds"), [(1, 0.01), (2, 0.02), (4, 0.06), (6, 0.1), (499, 0.1)])
    def test_the_more_it_found_the_longer_it_waits(self, rows, seconds):
        gathering = Gathering(lambda: 0.0)
        gathering.searched(rows, all_taken=True)
        assert gathering.seconds() == pytest.approx(seconds)

    @pytest.mark.parametrize(("per_second", "least", "most"), [(10, 1, 1.1), (20, 1, 1.3), (100, 5, 11), (400, 35, 45)])
    def test_batches_grow_with_the_rate(self, per_second, least, most):
        """Rows come at random, and a search takes a millisecond."""
        chance, now, batches = random.Random(7), 0.0, []
        gathering = Gathering(lambda: now)
        arrival = chance.expovariate(per_second)
        while now < 60:
            found = 0
            while arrival <= now:
                found += 1
                arrival += chance.expovariate(per_second)
            if found and now > 30:
                batches.append(found)
            gathering.searched(found, all_taken=True)
            now += 0.001 + gathering.seconds()
        assert least <= statistics.mean(batches) <= most

    def test_time_that_has_passed_counts(self):
        gathering = Gathering()
        gathering.searched(1, all_taken=True)
        eventually(lambda: gathering.seconds() == 0)
