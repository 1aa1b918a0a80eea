"""Publishing, the same for every kind of service: an event becomes part of the transaction that changes the state.

In a service with a database, it is a row of the outbox, in the database's transaction. In a service without one, it is a record
in the Kafka transaction of the current batch. The service's declaration decides: see EVENTS_PUBLISHER in settings/base.py.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string

from chassis.events.envelope import Envelope, Outgoing, seal_each
from chassis.events.event import Event
from chassis.events.registry import Received

MOST_NAMED = 1_000
"""Maximum number of events whose topics the error names if they are published outside of a transaction."""


class NotInTransaction(Exception):
    """An event was published outside of a transaction.

    In a service with a database, wrap the change and its events in `transaction.atomic(using=settings.SERVICE_DATABASE)`. A
    service without one can publish only in its handlers.
    """


class Publisher(Protocol):
    """Writes the events of one kind of service. EVENTS_PUBLISHER names the class; it is created without arguments."""

    def in_transaction(self) -> bool:
        """Whether there is a transaction in which to publish."""

    def write(self, envelopes: Iterable[Envelope]) -> None:
        """Add these to the transaction, in order, all or none."""

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call a function after the transaction was committed."""


def publish(event: Event, *, key: str, cause: Received[Any] | None = None, event_id: str | None = None) -> None:
    """Publish one event in the open transaction. Raises NotInTransaction.

    `key` is the aggregate's id: events of one key are sent in the order in which they were published. For this to be the
    order of the changes, lock the aggregate (`select_for_update`) before you change it and publish, unless this transaction
    inserts it: of two concurrent transactions, the second must wait for the lock instead of committing first. In development
    and tests (OUTBOX_CHECK_KEYS), a missing lock that has an effect raises UnlockedAggregate.

    `cause` is the event that led to this one; without it, the event belongs to the current trace and request. Set `event_id`
    if publishing again must result in the same event; None generates a new id.
    """
    publish_all([Outgoing(event, key, cause, event_id)])


def publish_all(outgoing: Iterable[Outgoing]) -> None:
    """Publish many events, in order, all or none. For locks, see `publish`.

    `outgoing` may be a generator, and may use the database: an outbox is written in chunks, so that memory holds about
    OUTBOX_BATCH_BYTES of events. Raises NotInTransaction and UnlockedAggregate.
    """
    publisher = _publisher()
    if not publisher.in_transaction():
        raise NotInTransaction(", ".join(sorted({one.event.topic for one in islice(outgoing, MOST_NAMED)})))
    publisher.write(seal_each(outgoing))


def after_commit(callback: Callable[[], object]) -> None:
    """Call a function once the open transaction is committed; if it is rolled back, never. Raises NotInTransaction.

    For what a rollback cannot undo and a crash may lose, such as counting. The function must not use the database. What it
    raises is logged.
    """
    publisher = _publisher()
    if not publisher.in_transaction():
        raise NotInTransaction("after_commit")
    publisher.after_commit(callback)


def _publisher() -> Publisher:
    return cast(Publisher, import_string(settings.EVENTS_PUBLISHER)())
