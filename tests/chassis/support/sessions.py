"""Sessions of their own on the database of a test: what other processes would do there, step by step."""

from contextlib import closing, contextmanager

import psycopg
from django.db import connections

PUBLISH = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id)
SELECT gen_random_uuid(), 't', 'k', '', '[]', 'r' FROM generate_series(1, %s) RETURNING position
"""


def connect(*, autocommit=True) -> psycopg.Connection:
    parts = connections["users"].get_connection_params()
    wanted = {key: value for key, value in parts.items() if key in {"host", "port", "user", "password", "dbname"}}
    return psycopg.connect(**wanted, autocommit=autocommit)


@contextmanager
def session(*, autocommit=True):
    with closing(connect(autocommit=autocommit)) as connection:
        yield connection


def publish(connection, rows=1) -> list[int]:
    """Write rows, in the transaction that is open if one is; their positions."""
    return [position for (position,) in connection.execute(PUBLISH, [rows])]


@contextmanager
def old_snapshot():
    """A `pg_dump` that is under way: nothing that it might still read can be vacuumed away."""
    with session(autocommit=False) as dump:
        dump.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        dump.execute("SELECT 1 FROM outbox LIMIT 1")
        yield dump
