"""Classification of errors: of an event, which is retried a limited number of times, or of a dependency, which is awaited."""

from typing import Self

from confluent_kafka import KafkaException

from chassis import exceptions
from chassis.database.failures import is_idle_timeout, is_statement_timeout, is_unavailable


class DependencyDown(Exception):
    """The database or the broker does not respond; wait for it."""


class HandlerFailed(Exception):
    """A handler raised `error`, which may be any exception, including one of the chassis."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {exceptions.message(error)}")
        self.error = error


class HandlerTimeout(BaseException):
    """The handler ran longer than its time limit. Not an Exception, so that `except Exception` in a handler does not catch it."""


class _Explained(Exception):
    """An exception whose message is its docstring."""

    @classmethod
    def explained(cls) -> Self:
        """Create it with its docstring as the message."""
        return cls(" ".join((cls.__doc__ or "").split()))


class RolledBack(_Explained):
    """The handler returned, but its transaction cannot be committed: it caught an error of the database, or of `publish`. Do
    not catch the error, or catch it outside a savepoint (`transaction.atomic()`).
    """


class TransactionEnded(_Explained):
    """The handler ended the transaction of its events (COMMIT, ROLLBACK), closed or replaced its connection, or left an
    `atomic` block open. Only the consumer ends that transaction; a handler can use a savepoint (`with transaction.atomic():`).
    """


class EventRefused(Exception):
    """The broker will never accept an event that the handler publishes, for example because it is too large."""


class Crashed(Exception):
    """The event was being processed each time that the process crashed; its handler was not called again."""


class DeadLetterRefused(Exception):
    """A dead letter cannot be written: its topic is missing, not permitted, or its size limit is too small."""


def is_dependency(error: BaseException) -> bool:
    """Whether `error` appears to be about the database or the broker, and not about the current event.

    This is not proof: a trigger or a handler can raise any of these errors for one event. A probe shows whether the dependency
    is down (`Transaction.probe`).
    """
    if is_statement_timeout(error) or is_idle_timeout(error):
        return False  # trying the event alone shows the cause: see Triage
    return isinstance(error, DependencyDown | KafkaException) or is_unavailable(error)
