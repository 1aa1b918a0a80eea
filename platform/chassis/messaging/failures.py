"""Whose fault it was: an event's, which is tried a bounded number of times, or a dependency's, which is waited for."""

from confluent_kafka import KafkaException
from django.db import DatabaseError, InterfaceError, OperationalError

CONNECTION_LOST = ("08", "53", "55", "57", "58", "40", "25")
"""SQLSTATE classes that say nothing about the event: connection, resources, locks, operator, system, serialization,
and transaction state (25006 is a read-only database). https://www.postgresql.org/docs/current/errcodes-appendix.html"""


class DependencyDown(Exception):
    """The database or the broker does not answer; wait for it."""


class HandlerTimeout(Exception):
    """The handler ran longer than its time limit."""


class Refused(Exception):
    """The broker will never take what the handler publishes; a record that is too large, say."""


def _sqlstate(error: BaseException) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""


def is_statement_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL ended a statement for its time: a slow database, or an event that asks too much of it."""
    return isinstance(error, DatabaseError) and _sqlstate(error) == "57014"


def is_idle_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL ended the session as the handler left its transaction idle: it did something else for too long."""
    return isinstance(error, DatabaseError) and _sqlstate(error) == "25P03"


def is_dependency(error: BaseException) -> bool:
    """Whether `error` is about the database or the broker, and so not about the event at hand."""
    if is_statement_timeout(error) or is_idle_timeout(error):
        return False  # who is to blame shows when the event is tried alone: see Consumer
    if isinstance(error, DependencyDown | OperationalError | InterfaceError):
        return True
    if isinstance(error, DatabaseError):
        return _sqlstate(error)[:2] in CONNECTION_LOST
    return isinstance(error, KafkaException)
