"""The public API for events: the code of a service imports these names, and nothing from the modules in this package."""

from chassis.events.envelope import Outgoing, Unreadable, unseal
from chassis.events.event import Event, Money
from chassis.events.publishing import NotInTransaction, after_commit, publish, publish_all
from chassis.events.registry import Received, handles

__all__ = [
    "Event",
    "Money",
    "NotInTransaction",
    "Outgoing",
    "Received",
    "Unreadable",
    "after_commit",
    "handles",
    "publish",
    "publish_all",
    "unseal",
]
