"""Health checks, in the form of django-health-check: dataclasses whose `run` raises if a part does not work.

ServiceUnavailable means that the part is down, ServiceWarning that it is degraded. `/health/ready` shows their messages, so
they contain no host names and no text of exceptions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings
from django.db import DatabaseError, connections

from chassis.database.session import WrongSession
from chassis.events.registry import handlers
from chassis.health.check import HealthCheck, ServiceUnavailable, ServiceWarning
from chassis.health.heartbeat import Heartbeat

if TYPE_CHECKING:
    from chassis.kafka.renewal import Renewed


@dataclass
class Database(HealthCheck):
    """The service's database responds on a new connection. The connect timeout applies, but a probe does not wait that long.

    A read-only database is down for a process that must write (`must_write`), otherwise degraded.
    """

    alias: str
    must_write: bool = False

    def run(self) -> None:
        """Query whether the database is read-only. Raises ServiceUnavailable, ServiceWarning."""
        try:
            with connections[self.alias].cursor() as cursor:
                cursor.execute("SELECT current_setting('transaction_read_only')")
                (read_only,) = cursor.fetchone()
        except WrongSession as error:
            raise ServiceUnavailable("its sessions do not have the required parameters") from error
        except DatabaseError as error:
            raise ServiceUnavailable("does not respond") from error
        if read_only == "on":
            raise (ServiceUnavailable if self.must_write else ServiceWarning)("is read-only")


@dataclass
class Outbox(HealthCheck):
    """The outbox is being sent: no event has waited in it for longer than `late_after`."""

    alias: str
    late_after: timedelta = timedelta(seconds=30)

    def run(self) -> None:
        """Query the oldest unsent row. Raises ServiceWarning."""
        from chassis.outbox.gauges import oldest_age  # only in processes with a database

        try:
            with connections[self.alias].cursor() as cursor:
                age = oldest_age(cursor)
        except DatabaseError as error:
            raise ServiceWarning("cannot be read") from error
        if age is not None and age > self.late_after.total_seconds():
            raise ServiceWarning(f"events have waited for {age:.0f} s to be sent")


class KafkaClient(Protocol):
    """A producer or an admin client that is kept after the check."""

    def list_topics(self, topic: str = ..., timeout: float = ...) -> Any:
        """The cluster's metadata; raises KafkaException if no broker responds in time."""

    def poll(self, timeout: float = ...) -> int:
        """Serve callbacks."""


@cache
def _admins() -> "Renewed[Any]":
    from chassis.kafka import clients, renewal  # only in processes that check the broker

    return renewal.Renewed(clients.admin)


@dataclass
class Broker(HealthCheck):
    """A broker responds. Uses an existing client, or creates one client once; never creates a consumer."""

    client: Callable[[], KafkaClient] | None = field(default=None, repr=False)
    patience: float = 1.0

    def run(self) -> None:
        """Request the metadata of one topic. Raises ServiceUnavailable."""
        from confluent_kafka import KafkaException

        from chassis.kafka import authentication
        from chassis.kafka.clients import ANY_TOPIC
        from chassis.kafka.renewal import Renewed

        clients = Renewed(self.client) if self.client else _admins()
        client = clients.get()
        try:
            clients.ask(lambda client: client.list_topics(ANY_TOPIC, timeout=self.patience))
        except KafkaException as error:
            client.poll(0)  # delivers the reason to the error callback
            rejected = authentication.is_rejected()
            reason = f"rejects the credentials: {authentication.CHECK}" if rejected else "does not respond"
            raise ServiceUnavailable(reason) from error
        finally:
            # librdkafka queues its log messages until it is polled.
            client.poll(0)


@dataclass
class Loop(HealthCheck):
    """The worker's loop is not stuck."""

    heartbeat: Heartbeat = field(repr=False)
    within: float | None = None

    def limit(self) -> float:
        """The seconds after which the loop counts as stuck: twice as long as any handler may take, and at least 30 s."""
        if self.within is not None:
            return self.within
        default = float(settings.HANDLER_TIMEOUT_SECONDS)
        return max(30.0, 2 * max([default, *(handler.timeout or default for handler in handlers().values())]))

    def run(self) -> None:
        """Check the time of the last beat. Raises ServiceUnavailable."""
        age = self.heartbeat.age()
        if age > self.limit():
            raise ServiceUnavailable(f"has been stuck for {age:.0f} s")


@dataclass
class Awaited(HealthCheck):
    """A dependency that responds to a check, and for which the loop does not wait."""

    part: str
    check: HealthCheck = field(repr=False)
    heartbeat: Heartbeat = field(repr=False)

    def run(self) -> None:
        """Check the dependency, then the loop. Raises ServiceUnavailable."""
        self.check.run()
        if self.heartbeat.waits_for(self.part):
            raise ServiceUnavailable(self.heartbeat.why(self.part) or "the loop waits for it")


@dataclass
class Membership(HealthCheck):
    """The worker has joined its group. A member without partitions counts as joined: it stands by."""

    heartbeat: Heartbeat = field(repr=False)

    def run(self) -> None:
        """Check whether the loop has reported it. Raises ServiceUnavailable."""
        if not self.heartbeat.joined.is_set():
            raise ServiceUnavailable(self.heartbeat.reported("group") or "has not joined yet")


@dataclass
class Handlers(HealthCheck):
    """No topic is stopped because key after key fails. A stopped topic usually indicates a bad deployment, and a rolling
    update must not continue with it.
    """

    heartbeat: Heartbeat = field(repr=False)

    def run(self) -> None:
        """Check whether the loop has reported one. Raises ServiceUnavailable."""
        if reason := self.heartbeat.reported("handlers"):
            raise ServiceUnavailable(reason)


@dataclass
class Warned(HealthCheck):
    """The loop has reported nothing that requires an operator."""

    part: str
    heartbeat: Heartbeat = field(repr=False)

    def run(self) -> None:
        """Check what it has reported. Raises ServiceWarning."""
        if reason := self.heartbeat.reported(self.part):
            raise ServiceWarning(reason)
