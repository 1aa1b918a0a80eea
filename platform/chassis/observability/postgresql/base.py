"""The backend that settings name as ENGINE. A process has one connection for each thread that uses the database."""

import select
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import psycopg
from django_prometheus.db.backends.postgresql import base
from django_prometheus.db.common import ExportingCursorWrapper
from psycopg import ClientCursor, Error
from psycopg.pq import TransactionStatus

from chassis.observability import metrics, sampling
from chassis.observability.postgresql.postponed import Connection, PostponingCursor, PreparingCursor, Statement

_wrappers: "weakref.WeakSet[DatabaseWrapper]" = weakref.WeakSet()
_lock = threading.Lock()


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's connection of one thread; django-prometheus counts its statements."""

    Database = SimpleNamespace(**{**vars(psycopg), "connect": Connection.connect})
    """The module of the driver."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with _lock:
            _wrappers.add(self)

    def get_connection_params(self) -> dict[str, Any]:
        """The arguments for `psycopg.connect`."""
        return {
            **super().get_connection_params(),
            "cursor_factory": _counted(PostponingCursor, self.alias, self.vendor),
        }

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect. Raises what psycopg raises."""
        started = time.perf_counter()
        try:
            connection = super().get_new_connection(conn_params)
        except Exception:
            metrics.DB_CONNECTION_ERRORS.inc()
            raise
        metrics.DB_CONNECTION_CREATE_SECONDS.observe(time.perf_counter() - started)
        connection.alias = self.alias
        return connection

    def is_usable(self) -> bool:
        """Whether the session still exists; Django asks before the first statement of each request.

        Django's own check is a statement, which would be a fifth of a small request. But PostgreSQL sends nothing to an idle
        session, and when it ends one, it says so and closes the socket. So the statement is needed only if something has
        arrived. Of a server that died silently the keepalives of TCP find out in ten seconds (`keepalives_idle`).
        """
        connection = self.connection
        if connection is None or connection.closed:
            return False
        return not _has_received(connection.fileno()) or bool(super().is_usable())

    def prepared_cursor(self) -> Any:
        """A cursor whose statements the server prepares, each once per session; behind a pooler, an ordinary cursor.

        Without a check whether the session still exists: the caller repeats what fails.
        """
        if self.settings_dict["DISABLE_SERVER_SIDE_CURSORS"]:
            return self.cursor()
        self.ensure_connection()
        with self.wrap_database_errors:
            # With None, psycopg prepares nothing; with this, only what asks for it.
            self.connection.prepare_threshold = sys.maxsize
            return self._prepare_cursor(_counted(PreparingCursor, self.alias, self.vendor)(self.connection))

    # --- postponed statements ---

    def postpone(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Execute a statement of the open transaction with its next one, or with its COMMIT, which then raises its errors.

        It must return no rows. Raises Django's database errors for parameters that PostgreSQL cannot store.
        """
        self.validate_no_broken_transaction()
        assert self.in_atomic_block, "a statement that no transaction sends would be lost"
        if self.connection.postpones:
            with self.wrap_database_errors, ClientCursor(self.connection) as cursor:
                self.connection.postpone(Statement(cursor.mogrify(sql, params).encode(), recorded=sql))
        else:
            with self.cursor() as cursor:
                cursor.execute(sql, params)

    def send_postponed(self) -> None:
        """Execute what is postponed now. Raises Django's database errors."""
        if self.connection is not None:
            with self.wrap_database_errors:
                self.connection.send_postponed()

    def create_cursor(self, name: str | None = None) -> Any:
        """A cursor; one with a name is of the server, and fetches its rows in parts."""
        if name:
            self.connection.send_postponed()
        return super().create_cursor(name)

    def _savepoint(self, sid: str) -> None:
        if self.connection.postpones:
            self.connection.postpone(self._begin_of(sid))
        else:
            super()._savepoint(sid)

    def _savepoint_commit(self, sid: str) -> None:
        if self.connection.drop_unused(self._begin_of(sid)):
            return
        if self.connection.postpones:
            self.connection.postpone(Statement(self.ops.savepoint_commit_sql(sid).encode()))
        else:
            super()._savepoint_commit(sid)

    def _savepoint_rollback(self, sid: str) -> None:
        if not self.connection.drop_after(self._begin_of(sid)):
            super()._savepoint_rollback(sid)

    def _begin_of(self, sid: str) -> Statement:
        return Statement(self.ops.savepoint_create_sql(sid).encode())


@cache
def _counted(cursor: type, alias: str, vendor: str) -> Any:
    return ExportingCursorWrapper(cursor, alias, vendor)


def _has_received(socket: int) -> bool:
    """Whether there is something to read, an end or an error included."""
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


def _sample() -> None:
    """Count the connections of all threads; costs the statements nothing."""
    with _lock:
        wrappers = list(_wrappers)
    # Other threads may open and close them meanwhile.
    states = [_state(connection) for wrapper in wrappers if (connection := wrapper.connection) is not None]
    for state in ("used", "idle"):
        metrics.DB_CONNECTIONS.labels(state).set(states.count(state))


def _state(connection: Any) -> str:
    if connection.closed:
        return "closed"
    try:
        return "idle" if connection.info.transaction_status == TransactionStatus.IDLE else "used"
    except Error:
        return "closed"


sampling.sample(_sample)
