"""The handlers of a batch run in one transaction that only the consumer ends: a handler cannot commit it or roll it back.

The batch's inbox rows are written first. If a handler could commit, every event of the batch would be recorded as processed,
most of them before their handlers ran. PostgreSQL itself therefore refuses the commit: a deferred trigger on `inbox`
(migration 0009) raises while this transaction is marked as open. The mark is a setting that ends with the transaction, so
its absence shows that the transaction was rolled back and another one begun. See docs/adr/0047-one-transaction.md.

This takes no round trip of its own: the mark is set together with the inbox rows, and removed together with the commit.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from django.conf import settings
from django.db import DatabaseError, connections

from chassis.consumer.clean_session import Session
from chassis.database.failures import sqlstate
from chassis.runtime.failures import DependencyDown, HandlerFailed, RolledBack, TransactionEnded

MARK = "SET LOCAL chassis.batch = '{mark}'"
# Without the mark this is a division by zero, and PostgreSQL does not execute the COMMIT that follows in the same string.
UNMARK = """
SELECT set_config('chassis.batch', '', true)
WHERE 1 / (coalesce(current_setting('chassis.batch', true), '') = '{mark}')::int = 1
"""
DIVISION_BY_ZERO = "22012"


class OneTransaction:
    """The open transaction on the service's database in which handlers run."""

    def __init__(self) -> None:
        self._connection = connections[settings.SERVICE_DATABASE]
        self._raw: Any = self._connection.connection
        self._mark = uuid.uuid4().hex
        self._blocks = len(self._connection.atomic_blocks)
        self._savepoints = len(self._connection.savepoint_ids)

    @classmethod
    @contextmanager
    def begun(cls) -> Iterator[Self]:
        """Guard the open transaction while the body runs. Its first statement must be `mark`, its last call `commit` or `end`.

        Statements in the body raise TransactionEnded if that transaction no longer exists.
        """
        found = cls()
        wrappers = list(found._connection.execute_wrappers)
        found._connection.execute_wrappers.append(found._execute)
        try:
            yield found
        finally:
            # Without what a handler has added or removed.
            found._connection.execute_wrappers[:] = wrappers
            found._clean_up()

    @property
    def mark(self) -> str:
        """The statement after which this transaction can be committed only by `commit`; see `inbox.claim`."""
        return MARK.format(mark=self._mark)

    def commit(self, session: Session) -> None:
        """Commit the transaction after the handlers have returned, and reset the session.

        Raises HandlerFailed if it cannot be committed, or is not the one that was marked, and Django's database errors.
        """
        self._check()
        self._unmark(session.commit)

    def end(self) -> None:
        """As `commit`, but leave the commit to the surrounding `atomic` block, and the session as it is."""
        self._check()
        with self._connection.cursor() as cursor:
            self._unmark(cursor.execute)

    def _unmark(self, execute: Callable[[str], Any]) -> None:
        try:
            execute(UNMARK.format(mark=self._mark))
        except DatabaseError as error:
            # An error of the COMMIT itself ends the transaction.
            if sqlstate(error) == DIVISION_BY_ZERO and not self._is_gone():
                raise HandlerFailed(TransactionEnded.explained()) from error
            raise

    def _check(self) -> None:
        from psycopg.pq import TransactionStatus  # only in a service with a database

        if self._is_lost():
            raise HandlerFailed(DependencyDown("the connection was lost while the handler ran"))
        if self._is_gone() or self._has_other_blocks():
            raise HandlerFailed(TransactionEnded.explained())
        if self._connection.needs_rollback or self._raw.pgconn.transaction_status != TransactionStatus.INTRANS:
            raise HandlerFailed(RolledBack.explained())

    def _execute(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        if self._is_gone() and not self._is_lost():
            raise TransactionEnded.explained()
        return execute(sql, params, many, context)

    def _is_lost(self) -> bool:
        """Whether the server or the network closed the connection."""
        return bool(self._raw.broken)

    def _is_gone(self) -> bool:
        from psycopg.pq import TransactionStatus  # only in a service with a database

        connection = connections[settings.SERVICE_DATABASE]
        return (
            connection is not self._connection
            or connection.connection is not self._raw
            or connection.closed_in_transaction
            or not connection.in_atomic_block
            or self._raw.closed
            or self._raw.pgconn.transaction_status == TransactionStatus.IDLE
        )

    def _has_other_blocks(self) -> bool:
        """Whether a block was entered and never left, of Django (`atomic`) or psycopg (`transaction`): it would be committed."""
        found = self._connection
        return (
            len(found.atomic_blocks) != self._blocks
            or len(found.savepoint_ids) != self._savepoints
            or self._raw._num_transactions > 0
        )

    def _clean_up(self) -> None:
        """Restore the state that the surrounding `atomic` block expects, and close a session that may still hold locks."""
        if self._connection.in_atomic_block:
            del self._connection.atomic_blocks[self._blocks :]
            del self._connection.savepoint_ids[self._savepoints :]
        if connections[settings.SERVICE_DATABASE].connection is not self._raw and not self._raw.closed:
            self._raw.close()
