"""Resets the database session and the connection after each batch, whatever its handlers changed.

A `SET search_path`, a session-level advisory lock, a temporary table or a `row_factory` would otherwise affect every later
event and the consumer's own statements: one event would stop all others until the process is restarted.
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
"""Attributes of a psycopg connection that are not session parameters."""


@contextmanager
def cleaned() -> Iterator[None]:
    """Reset the session of the service's database after the body, which begins and ends a transaction.

    `DISCARD ALL` resets the parameters to their values at connection time, in about 0.05 ms. If that fails, or an attribute
    was changed, the connection is closed. Raises the errors of connecting, but none after the body.
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
    """Reset the session. Returns whether it succeeded."""
    from psycopg import Cursor, Error  # only where there is a database

    # A plain psycopg cursor: this statement must not be traced as a query of an event.
    try:
        with Cursor(connection.connection) as cursor:
            cursor.execute(b"DISCARD ALL")
    except Error:
        return False
    return True
