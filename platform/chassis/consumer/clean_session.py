"""What a handler leaves behind in the database's session, or on its connection, is gone before the next batch.

A `SET search_path`, a session's advisory lock, a temporary table or a `row_factory` would otherwise be met by every later
event, and by the consumer's own statements: one event would stop all others until the process is restarted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

ATTRIBUTES = (
    "isolation_level",
    "read_only",
    "deferrable",
    "row_factory",
    "cursor_factory",
    "server_cursor_factory",
    "prepare_threshold",
)
"""What can be set on a connection of psycopg, and is no parameter of the session."""


@contextmanager
def cleaned() -> Iterator[None]:
    """Restore the session of the service's database after the body, which begins and ends a transaction.

    `DISCARD ALL` gives the parameters the values that they had when the connection was made, and costs 0.05 ms. What it
    cannot restore is restored by a new connection. Raises what connecting raises, and after the body nothing.
    """
    connection = connections[settings.SERVICE_DATABASE]
    connection.get_autocommit()  # connects, where there is no connection that works
    raw, attributes = connection.connection, _attributes(connection.connection)
    try:
        yield
    finally:
        stayed = connection.connection is raw and not connection.in_atomic_block
        if stayed and (_attributes(raw) != attributes or not _discard(connection)):
            connection.close()


def _attributes(raw: Any) -> list[Any]:
    return [getattr(raw, name) for name in ATTRIBUTES]


def _discard(connection: BaseDatabaseWrapper) -> bool:
    """Whether nothing of the session is left."""
    from psycopg import Cursor, Error  # only where there is a database

    # psycopg's own cursor: this is neither a query of an event nor a span of its trace.
    try:
        with Cursor(connection.connection) as cursor:
            cursor.execute(b"DISCARD ALL")
    except Error:
        return False
    return True
