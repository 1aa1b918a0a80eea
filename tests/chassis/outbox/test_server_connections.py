"""The connections at the database server, and the limit that leaves the fewest."""

import pytest
from django.db import connections

from chassis.observability import metrics
from chassis.outbox import server_connections
from tests.chassis.support.sessions import session

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


def measure() -> tuple[float, dict[str, float]]:
    with connections["users"].cursor() as cursor:
        server_connections.measure(cursor)
    numbers = {state: metrics.DB_SERVER_CONNECTIONS.labels(state)._value.get() for state in server_connections.STATES}
    return metrics.DB_SERVER_CONNECTION_MAX._value.get(), numbers


@pytest.fixture
def limited():
    """The database allows forty connections, fewer than the server; at the end it has no limit again."""
    with session() as connection:
        [name] = connection.execute("SELECT current_database()").fetchone()
        connection.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 40')
        yield
        connection.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')


def test_without_other_limits_it_is_that_of_the_server():
    most, numbers = measure()
    with connections["users"].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            " - current_setting('reserved_connections')::int"
        )
        assert cursor.fetchone() == (most,)
    assert numbers["active"] >= 1


def test_the_limit_of_the_database_applies_if_it_is_lower(limited):
    before = measure()[1]
    with session() as idle, session(autocommit=False) as in_transaction:
        idle.execute("SELECT 1")
        in_transaction.execute("SELECT 1")
        most, numbers = measure()
    assert most == 40
    assert {state: numbers[state] - before[state] for state in numbers} == {
        "active": 0, "idle": 1, "idle in transaction": 1, "other": 0,
    }  # fmt: skip
