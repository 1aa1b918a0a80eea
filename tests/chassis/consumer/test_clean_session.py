"""Handlers that leave something behind in the session of their database: the next events do not meet it."""

import pytest
from django.db import DatabaseError, connections, transaction
from psycopg import rows

from chassis.consumer.database_transaction import DatabaseTransaction
from chassis.events.registry import Handler
from chassis.runtime.failures import HandlerFailed
from tests.chassis.consumer.test_one_transaction import Noted, batch, effects, marked, notes, sql

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)

STATE = """
SELECT (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name !~ '^transaction_|[.]'),
current_user, coalesce(current_setting('chassis.batch', true), ''),
(SELECT array_agg(c.relname) FROM pg_class c WHERE c.relnamespace = pg_my_temp_schema()),
(SELECT array_agg(channel) FROM pg_listening_channels() channel), (SELECT array_agg(name) FROM pg_prepared_statements),
(SELECT array_agg(name) FROM pg_cursors WHERE is_holdable)
"""
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"


def sets_a_row_factory():
    connections["users"].connection.row_factory = rows.dict_row


def sets_it_after_the_commit():
    transaction.on_commit(sql("SET search_path TO nowhere", "SELECT pg_advisory_lock(4711)"), using="users")


def leaves_a_wrapper():
    connections["users"].execute_wrappers.append(lambda *_: 1 / 0)


def removes_our_wrapper():
    connections["users"].execute_wrappers.clear()


LEFT = [
    sql("SET search_path TO nowhere"),
    sql("SET statement_timeout TO 1"),
    sql("SET lock_timeout TO 1"),
    sql("SET idle_in_transaction_session_timeout TO 1"),
    sql("SET default_transaction_read_only TO on"),
    sql("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"),
    sql("SET synchronous_commit TO off"),
    sql("SET timezone TO 'Asia/Tokyo'"),
    sql("SET datestyle TO 'German, DMY'"),
    sql("SET bytea_output TO escape", "SET standard_conforming_strings TO off"),
    sql("RESET ALL"),
    sql("SET chassis.batch TO 'mine'"),
    sql("CREATE TEMP TABLE inbox (LIKE public.inbox)"),
    sql("LISTEN something"),
    sql("SELECT pg_advisory_lock(4711)"),
    sql("SELECT nextval('outbox_position_seq')"),
    sql("SET ROLE pg_monitor"),
    sql("SET SESSION AUTHORIZATION pg_monitor"),
    sql("PREPARE mine AS SELECT 1"),
    sql("DECLARE mine CURSOR WITH HOLD FOR SELECT 1"),
    sets_a_row_factory,
    sets_it_after_the_commit,
    leaves_a_wrapper,
    removes_our_wrapper,
]


@pytest.fixture
def unit():
    return DatabaseTransaction(None, {"noted": Handler(Noted, notes)})


def session() -> list[object]:
    with connections["users"].cursor() as cursor:
        cursor.execute(STATE)
        return list(cursor.fetchone())


def locks() -> int:
    with connections["users"].cursor() as cursor:
        cursor.execute(LOCKS)
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("leave", LEFT, ids=lambda leave: leave.__name__)
def test_the_next_batch_meets_nothing_of_it(leave, unit):
    before = session()

    def handler(received):
        notes(received)
        leave()

    guilty = DatabaseTransaction(None, {"noted": Handler(Noted, handler)})
    try:
        guilty.process(batch(1), {})
    except (HandlerFailed, DatabaseError, ZeroDivisionError):
        assert marked() == set(), "all or nothing"
    assert (session(), locks()) == (before, 0)
    unit.process(batch(1, 2), {})
    assert (effects(), marked()) == (["1", "2"], {"1", "2"})


def test_a_lock_of_a_handler_that_failed_is_released(unit):
    """A rollback does not release the locks of a session."""

    def handler(received):
        sql("SELECT pg_advisory_lock(4711)")()
        raise ValueError

    guilty = DatabaseTransaction(None, {"noted": Handler(Noted, handler)})
    with pytest.raises(HandlerFailed):
        guilty.process(batch(1), {})
    assert locks() == 0


def test_the_connection_stays(unit):
    """A new one for each batch would take longer than the batch."""
    unit.process(batch(1), {})
    raw = connections["users"].connection
    unit.process(batch(2), {})
    with pytest.raises(HandlerFailed):
        DatabaseTransaction(None, {"noted": Handler(Noted, lambda received: 1 / 0)}).process(batch(3), {})
    assert connections["users"].connection is raw
