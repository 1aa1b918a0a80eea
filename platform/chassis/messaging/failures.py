"""Whose fault it was: an event's, which is tried a bounded number of times, or a dependency's, which is waited for."""

from confluent_kafka import KafkaException

from chassis.database.failures import is_idle_timeout, is_statement_timeout, is_unavailable


class DependencyDown(Exception):
    """The database or the broker does not answer; wait for it."""


class HandlerTimeout(Exception):
    """The handler ran longer than its time limit."""


class Refused(Exception):
    """The broker will never take what the handler publishes; a record that is too large, say."""


class Crashed(Exception):
    """The event was being handled each time that the process ended without a word; its handler was not called again."""


class Unburied(Exception):
    """A dead letter cannot be written where it belongs: its topic is missing, closed to us, or takes only smaller ones."""


def is_dependency(error: BaseException) -> bool:
    """Whether `error` is about the database or the broker, and so not about the event at hand."""
    if is_statement_timeout(error) or is_idle_timeout(error):
        return False  # who is to blame shows when the event is tried alone: see Consumer
    return isinstance(error, DependencyDown | KafkaException) or is_unavailable(error)
