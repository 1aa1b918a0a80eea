"""Additional sessions on the test database, which act like other processes."""

from contextlib import closing, contextmanager

import psycopg
from django.db import connections

PUBLISH = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id)
SELECT gen_random_uuid(), 't', 'k', '', '[]', 'r' FROM generate_series(1, %s) RETURNING position
"""


def connect(*, autocommit=True) -> psycopg.Connection:
    parts = connections["users"].get_connection_params()
    options = {key: value for key, value in parts.items() if key in {"host", "port", "user", "password", "dbname"}}
    return psycopg.connect(**options, autocommit=autocommit)


@contextmanager
def session(*, autocommit=True):
    with closing(connect(autocommit=autocommit)) as connection:
        yield connection


def publish(connection, rows=1) -> list[int]:
    """Insert rows, within the open transaction if any. Returns their positions."""
    return [position for (position,) in connection.execute(PUBLISH, [rows])]


@contextmanager
def old_snapshot():
    """A running `pg_dump`: vacuum cannot remove rows that it might still read."""
    with session(autocommit=False) as dump:
        dump.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        dump.execute("SELECT 1 FROM outbox LIMIT 1")
        yield dump
