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

from chassis.database.callbacks import WithoutDatabase
from chassis.observability import sql_spans

RESET = """
CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();
DISCARD TEMP; DISCARD SEQUENCES
"""
"""What `DISCARD ALL` is, except that plans are kept. `DISCARD ALL` cannot be executed in one string with other statements."""

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


class Session:
    """The database session of a batch."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._is_reset = False

    def commit(self, last: str) -> None:
        """Commit the open transaction after this last statement, and reset the session, in one round trip.

        Raises Django's database errors. Django's own commit of the `atomic` block has then nothing left to do.
        """
        from psycopg import Cursor  # only where there is a database

        # Functions given to transaction.on_commit() are called after this, and may change the session again.
        is_last = all(isinstance(entry[1], WithoutDatabase) for entry in self._connection.run_on_commit)
        # A plain psycopg cursor, so that a handler's execute_wrappers and cursor_factory do not matter.
        with (
            sql_spans.statement(self._connection.alias, "COMMIT"),
            self._connection.wrap_database_errors,
            self._connection.connection.taken() as postponed,
            Cursor(self._connection.connection) as cursor,
        ):
            cursor.execute(b"; ".join([*postponed, last.encode(), b"COMMIT", RESET.encode() if is_last else b""]))
        self._is_reset = is_last

    def reset(self) -> bool:
        """Reset the session, unless `commit` has. Returns whether it succeeded."""
        from psycopg import Cursor, Error  # only where there is a database

        if self._is_reset:
            return True
        # A plain psycopg cursor: this statement must not be traced as a query of an event.
        try:
            with Cursor(self._connection.connection) as cursor:
                cursor.execute(b"DISCARD ALL")
        except Error:
            return False
        return True


@contextmanager
def cleaned() -> Iterator[Session]:
    """Reset the session of the service's database after the body, which begins and ends a transaction.

    The parameters are reset to their values at connection time. If that fails, or an attribute was changed, the connection
    is closed. Raises the errors of connecting, but none after the body.
    """
    connection = connections[settings.SERVICE_DATABASE]
    connection.get_autocommit()  # connects, where there is no connection that works
    raw, attributes = connection.connection, _attributes(connection.connection)
    session = Session(connection)
    try:
        yield session
    finally:
        stayed = connection.connection is raw and not connection.in_atomic_block
        if stayed and (_attributes(raw) != attributes or not session.reset()):
            connection.close()


def _attributes(raw: Any) -> list[Any]:
    return [getattr(raw, name) for name in ATTRIBUTES]
