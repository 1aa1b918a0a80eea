"""Statements whose results are not needed are sent with the next statement, or with the COMMIT, in one round trip.

A round trip costs the client and PostgreSQL more processor time than a small statement. So savepoints are postponed, of which
most are released unused, and so is what is given to `DatabaseWrapper.postpone`. The next statement is sent as one text with
them: PostgreSQL executes them first and in order, each with its own timeout, and after an error nothing that follows.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import psycopg
from django.db.backends.postgresql.base import Cursor, ServerBindingCursor

from chassis.observability import sql_spans

_Cursor: Any = Cursor
_ServerBindingCursor: Any = ServerBindingCursor


MOST_BYTES = 65_536
"""What is postponed is sent once it is longer than this."""


class Statement(NamedTuple):
    """A complete statement, and its text without parameters for a span; None if it has no span."""

    sql: bytes
    recorded: str | None = None


class Connection(psycopg.Connection[Any]):
    """Psycopg's connection, with postponed statements.

    Every way to execute a statement sends them first, except a cursor that is created by calling its class: such a caller
    calls `send_postponed` before.
    """

    alias = ""
    """Django's name for the database."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._postponed: list[Statement] = []
        self._blocks = 0

    @property
    def postpones(self) -> bool:
        """Whether statements may be postponed: not in the blocks of psycopg, which send statements of their own."""
        return not self._blocks

    @property
    def has_postponed(self) -> bool:
        """Whether statements are postponed."""
        return bool(self._postponed)

    def postpone(self, statement: Statement) -> None:
        """Execute a statement with the next one, or now if there are many."""
        self._postponed.append(statement)
        if sum(len(one.sql) for one in self._postponed) > MOST_BYTES:
            self.send_postponed()

    def drop_unused(self, savepoint: Statement) -> bool:
        """Forget a savepoint after which nothing was executed or postponed; returns False if there was something."""
        if self._postponed[-1:] != [savepoint]:
            return False
        self._postponed.pop()
        return True

    def drop_after(self, savepoint: Statement) -> bool:
        """Forget what was postponed after a savepoint that is itself postponed.

        Returns False, and forgets everything, if the savepoint has been executed.
        """
        is_postponed = savepoint in self._postponed
        del self._postponed[self._postponed.index(savepoint) + 1 if is_postponed else 0 :]
        return is_postponed

    @contextmanager
    def taken(self) -> Iterator[list[bytes]]:
        """Take the statements, which the body must send. Their spans, if the trace is sampled, last as long as the body."""
        statements, self._postponed = self._postponed, []
        with ExitStack() as spans:
            for one in statements:
                if one.recorded is not None:
                    spans.enter_context(sql_spans.statement(self.alias, one.recorded))
            yield [one.sql for one in statements]

    def send_postponed(self, last: Sequence[bytes] = ()) -> None:
        """Execute what is postponed now, if there is anything, and `last` with it."""
        if self._postponed:
            with self.taken() as statements, psycopg.ClientCursor(self) as cursor:
                cursor.execute(b"; ".join([*statements, *last]))

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        self.send_postponed()
        self._blocks += 1
        try:
            yield
        finally:
            self._blocks -= 1

    # --- psycopg's methods ---

    @contextmanager
    def transaction(self, *args: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        """See psycopg."""
        with self._at_once(), super().transaction(*args, **options) as transaction:
            yield transaction

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """See psycopg."""
        with self._at_once(), super().pipeline() as pipeline:
            yield pipeline

    def commit(self) -> None:
        """Commit, in one message with what is postponed."""
        self.send_postponed([b"COMMIT"])
        super().commit()  # sends nothing if there is no transaction any more

    def rollback(self) -> None:
        """Roll back, and forget what is postponed."""
        self._postponed.clear()
        super().rollback()


class _AtOnce:
    """Methods of cursors that cannot send other statements with their own."""

    connection: Connection

    def executemany(self, *args: Any, **options: Any) -> Any:
        """See psycopg."""
        self.connection.send_postponed()
        return super().executemany(*args, **options)  # type: ignore[misc]

    def copy(self, *args: Any, **options: Any) -> Any:
        """See psycopg."""
        self.connection.send_postponed()
        return super().copy(*args, **options)  # type: ignore[misc]

    def stream(self, *args: Any, **options: Any) -> Any:
        """See psycopg."""
        self.connection.send_postponed()
        return super().stream(*args, **options)  # type: ignore[misc]


class PostponingCursor(_AtOnce, _Cursor):
    """Django's cursor: executes what is postponed with its own statement, and then has only the results of that."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """See psycopg."""
        if not self.connection.has_postponed:
            return super().execute(query, params, **options)
        own = self.mogrify(query, params).encode()
        with self.connection.taken() as statements:
            super().execute(b"; ".join([*statements, own]), **options)
        for _ in statements:
            self.nextset()
        return self


class PreparingCursor(_AtOnce, _ServerBindingCursor):
    """Has each statement prepared."""

    def execute(self, query: Any, params: Any = None) -> Any:
        """See psycopg."""
        self.connection.send_postponed()
        return super().execute(query, params, prepare=True)
