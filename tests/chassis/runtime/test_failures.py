"""The classification of errors, for errors that PostgreSQL really raises, as Django passes them on."""

import os
import secrets
import uuid

import psycopg
import pytest
from django.db import DatabaseError, connections, transaction
from django.db.utils import ConnectionHandler

from chassis.database.failures import is_unavailable
from chassis.messaging.models import InboxEvent
from chassis.runtime.failures import is_dependency

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


def raised(*statements: str) -> DatabaseError:
    """What the last of these statements raises."""
    *before, last = statements
    with transaction.atomic(using="users"), connections["users"].cursor() as cursor:
        for statement in before:
            cursor.execute(statement)
        with pytest.raises(DatabaseError) as caught:
            cursor.execute(last)
        transaction.set_rollback(True, using="users")
    return caught.value


def raises(sqlstate: str) -> DatabaseError:
    return raised(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$")


@pytest.mark.parametrize("sqlstate", ["08006", "28P01", "40001", "40P01", "53100", "53300", "55P03", "57P01", "58030"])
def test_errors_unrelated_to_the_event(sqlstate):
    error = raises(sqlstate)
    assert (is_dependency(error), is_unavailable(error)) == (True, True)


@pytest.mark.parametrize("sqlstate", ["22001", "23505", "42501", "42P01", "54000", "P0001", "XX000"])
def test_errors_about_the_event_or_the_handler(sqlstate):
    error = raises(sqlstate)
    assert (is_dependency(error), is_unavailable(error)) == (False, False)


def test_a_read_only_database():
    error = raised("SET TRANSACTION READ ONLY", "DELETE FROM inbox")
    assert (is_dependency(error), is_unavailable(error)) == (True, True)


def test_a_slow_statement_may_be_the_fault_of_the_event():
    error = raised("SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(5)")
    assert (is_dependency(error), is_unavailable(error)) == (False, True)


def test_a_handler_that_continues_after_a_swallowed_error():
    """Of the same class as a read-only database (25), and waiting would not help it."""
    with transaction.atomic(using="users"), connections["users"].cursor() as cursor:
        for _ in range(2):
            with pytest.raises(DatabaseError) as caught:
                cursor.execute("SELECT 1 / 0")
        transaction.set_rollback(True, using="users")
    assert not is_dependency(caught.value)


def test_an_event_whose_id_is_too_long_for_the_index():
    """An OperationalError by its class, which waiting would never end: it stopped the whole consumer."""
    with pytest.raises(DatabaseError) as caught:
        InboxEvent.objects.create(event_id=secrets.token_hex(10_000), topic="t", key="k", request_id="r")
    assert not is_dependency(caught.value)


def test_an_unknown_host_name():
    parts = psycopg.conninfo.conninfo_to_dict(os.environ["USERS_DATABASE_URL"])
    own = {**connections["users"].settings_dict, "HOST": f"{uuid.uuid4()}.invalid", "PORT": str(parts["port"])}
    connection = ConnectionHandler({"default": {}, "own": own})["own"]
    with pytest.raises(DatabaseError) as caught:
        connection.ensure_connection()
    assert is_dependency(caught.value)
