"""Whose fault it was: an event's, which is tried a bounded number of times, or a dependency's, which is waited for."""

from typing import Self

from confluent_kafka import KafkaException

from chassis import exceptions
from chassis.database.failures import is_idle_timeout, is_statement_timeout, is_unavailable


class DependencyDown(Exception):
    """The database or the broker does not answer; wait for it."""


class HandlerFailed(Exception):
    """A handler raised this, whatever it is: it may be anybody's, an exception of the chassis itself included."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {exceptions.message(error)}")
        self.error = error


class HandlerTimeout(BaseException):
    """The handler ran longer than its time limit. Not an Exception, so that a handler does not catch it by the way."""


class _Explained(Exception):
    """Its message is its docstring."""

    @classmethod
    def explained(cls) -> Self:
        """One that says so."""
        return cls(" ".join((cls.__doc__ or "").split()))


class RolledBack(_Explained):
    """The handler returned, but its transaction cannot be committed any more: it caught an error of the database, or of
    `publish`. Let the error out, or catch it around a savepoint (`transaction.atomic()`).
    """


class TransactionEnded(_Explained):
    """The handler ended the transaction of its events (COMMIT, ROLLBACK), closed or replaced its connection, or left an
    `atomic` block open. Only the consumer ends that transaction; for work of its own, take a savepoint
    (`with transaction.atomic():`).
    """


class EventRefused(Exception):
    """The broker will never take what the handler publishes; a record that is too large, say."""


class Crashed(Exception):
    """The event was being handled each time that the process ended without a word; its handler was not called again."""


class DeadLetterRefused(Exception):
    """A dead letter cannot be written where it belongs: its topic is missing, closed to us, or takes only smaller ones."""


def is_dependency(error: BaseException) -> bool:
    """Whether `error` looks as if it were about the database or the broker, and not about the event at hand.

    It is no proof: a trigger or a handler can raise any of these for one event. Whether the dependency is away shows when it
    is asked (`Transaction.probe`).
    """
    if is_statement_timeout(error) or is_idle_timeout(error):
        return False  # who is to blame shows when the event is tried alone: see Triage
    return isinstance(error, DependencyDown | KafkaException) or is_unavailable(error)
