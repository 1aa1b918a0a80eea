"""Publishing, the same for every kind of service: an event becomes part of the transaction that makes it true.

With a database that is the database's transaction, and the event a row of its outbox; without one it is the Kafka transaction
of the batch at hand. Which of the two a service has follows from its declaration: see EVENTS_PUBLISHER in settings/base.py.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string

from chassis.events.envelope import Envelope, Outgoing, seal_each
from chassis.events.event import Event
from chassis.events.registry import Received

MOST_NAMED = 1_000
"""Of so many events that are published outside of a transaction the error names the topics."""


class NotInTransaction(Exception):
    """An event was published outside of a transaction.

    In a service with a database, wrap the change and its events in `transaction.atomic(using=settings.SERVICE_DATABASE)`. A
    service without one publishes in its handlers only.
    """


class Publisher(Protocol):
    """Where one kind of service writes its events. EVENTS_PUBLISHER names the class; it is called without arguments."""

    def in_transaction(self) -> bool:
        """Whether there is a transaction to publish in."""

    def write(self, envelopes: Iterable[Envelope]) -> None:
        """Make these part of the transaction, in their order, all or none."""


def publish(event: Event, *, key: str, cause: Received[Any] | None = None, event_id: str | None = None) -> None:
    """Publish one event in the open transaction. Raises NotInTransaction.

    `key` is the aggregate's id: events of one key are sent in the order in which they were published. For that to be the
    order of the changes, lock the aggregate (`select_for_update`) before you change it and publish, unless this very
    transaction inserts it: of two transactions that change it at once the later one must wait here, and not commit first.
    Raises UnlockedAggregate where that is seen to be missing (OUTBOX_CHECK_KEYS, in development and tests).

    `cause` is the event that led to this one; without it the trace and the request at hand are its own. `event_id` is set
    where a repeat must be the same event; None makes a new one.
    """
    publish_all([Outgoing(event, key, cause, event_id)])


def publish_all(outgoing: Iterable[Outgoing]) -> None:
    """Publish many events, in their order, all or none. About locks see `publish`.

    Into an outbox they are written while a generator makes them, so memory holds about OUTBOX_BATCH_BYTES of them; the
    generator may use the database. Raises NotInTransaction and UnlockedAggregate.
    """
    publisher = cast(Publisher, import_string(settings.EVENTS_PUBLISHER)())
    if not publisher.in_transaction():
        raise NotInTransaction(", ".join(sorted({one.event.topic for one in islice(outgoing, MOST_NAMED)})))
    publisher.write(seal_each(outgoing))
