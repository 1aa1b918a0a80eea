"""The gauges of the outbox, also while the relay waits for a broker."""

import pytest
from django.db import OperationalError, connections

from chassis.observability import metrics
from chassis.outbox import gauges as outbox_gauges
from chassis.outbox.gauges import OutboxGauges, measuring
from chassis.outbox.relay import Relay
from tests.chassis.support.loops import running
from tests.chassis.support.sessions import publish, session
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


class Standby:
    """A relay that does not send."""

    floor = None


def value(gauge) -> float:
    [sample] = [one for metric in gauge.collect() for one in metric.samples]
    return sample.value


@pytest.fixture
def other():
    with session() as connection:
        yield connection


def measured() -> tuple[float, float]:
    OutboxGauges(Standby()).measure()
    return value(metrics.OUTBOX_PENDING), value(metrics.OUTBOX_PARKED)


def test_counts_unsent_and_parked_rows(other):
    publish(other, 7)
    other.execute("UPDATE outbox SET sent_at = now() WHERE position IN (SELECT position FROM outbox LIMIT 2)")
    other.execute("UPDATE outbox SET parked_at = now() WHERE position = (SELECT max(position) FROM outbox)")
    assert measured() == (4, 1)


@pytest.mark.parametrize(("rows", "expected"), [(9, 9), (10, 10), (11, 11), (1_000, 1_000)])
def test_more_than_are_counted_are_estimated(other, monkeypatch, rows, expected):
    monkeypatch.setattr(outbox_gauges, "COUNTED", 10)
    publish(other, rows)
    assert measured() == (expected, 0)
    other.execute("UPDATE outbox SET parked_at = now()")
    assert measured() == (0, min(rows, 10))


def test_the_age_is_that_of_the_oldest_and_nothing_is_as_old_as_0(other):
    measured()
    assert value(metrics.OUTBOX_OLDEST_AGE) == 0
    publish(other, 2)
    other.execute("UPDATE outbox SET created_at = now() - position * interval '1 min'")
    age = other.execute("SELECT min(position) * 60 FROM outbox").fetchone()[0]
    measured()
    assert value(metrics.OUTBOX_OLDEST_AGE) == pytest.approx(age, abs=20)


def test_a_floor_above_a_reset_table_hides_nothing(other):
    """As after TRUNCATE … RESTART IDENTITY, or a restore of this table alone."""
    publish(other, 3)
    other.execute(
        "INSERT INTO outbox_floor (position) VALUES (1000000000) ON CONFLICT (only_row) DO UPDATE SET position = 1000000000"
    )
    assert measured() == (3, 0)


def test_an_unavailable_database_keeps_the_count_and_the_age_grows(other, monkeypatch):
    publish(other, 3)
    gauges = OutboxGauges(Standby())
    gauges.measure()
    before = value(metrics.OUTBOX_OLDEST_AGE)

    def away(*_):
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patched:
        patched.setattr(OutboxGauges, "_measure", away)
        gauges.measure()
    assert value(metrics.OUTBOX_PENDING) == 3
    assert value(metrics.OUTBOX_OLDEST_AGE) > before
    publish(other)
    gauges.measure()
    assert value(metrics.OUTBOX_PENDING) == 4


def test_they_work_while_the_relay_waits_for_a_dead_broker(other, settings, monkeypatch):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    monkeypatch.setattr(outbox_gauges, "EVERY_SECONDS", 0.05)
    publish(other, 3)
    with running(Relay) as relay:
        eventually(lambda: relay.loop and not relay.loop.broker_up, within=60)
        with measuring(relay.loop):
            eventually(lambda: value(metrics.OUTBOX_PENDING) == 3)
            publish(other, 4)
            eventually(lambda: value(metrics.OUTBOX_PENDING) == 7)
            age = value(metrics.OUTBOX_OLDEST_AGE)
            eventually(lambda: value(metrics.OUTBOX_OLDEST_AGE) > age)


def test_the_floor_of_the_active_relay_is_shared(other):
    class Sending:
        floor = 41

    publish(other, 3)
    for floor in (41, 7):
        Sending.floor = floor
        OutboxGauges(Sending()).measure()
        with connections["users"].cursor() as cursor:
            cursor.execute("SELECT position FROM outbox_floor")
            assert cursor.fetchall() == [(floor,)]
    OutboxGauges(Standby()).measure()
    with connections["users"].cursor() as cursor:
        cursor.execute("SELECT position FROM outbox_floor")
        assert cursor.fetchall() == [(7,)]
        cursor.execute("DELETE FROM outbox_floor")
