"""What can be asked whether it works: checks of django-health-check, dataclasses whose `run` raises when it does not.

ServiceUnavailable means that the part is down, ServiceWarning that it limps. Their messages are shown to whoever may
see `/health/ready`, so they name no host and quote no exception.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, Protocol

from django.conf import settings
from django.db import DatabaseError, connections
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable, ServiceWarning

from chassis.database.session import WrongSession
from chassis.health.heartbeat import Heartbeat


@dataclass
class Database(HealthCheck):
    """The service's database answers on a new connection. Its own connect timeout holds; the prober waits no longer.

    One that takes no writes is down for who can do nothing without (`must_write`), else it limps.
    """

    alias: str
    must_write: bool = False

    def run(self) -> None:
        """Ask the database whether it takes writes. Raises ServiceUnavailable, ServiceWarning."""
        try:
            with connections[self.alias].cursor() as cursor:
                cursor.execute("SELECT current_setting('transaction_read_only')")
                (read_only,) = cursor.fetchone()
        except WrongSession as error:
            raise ServiceUnavailable("gives sessions with other parameters than this service needs") from error
        except DatabaseError as error:
            raise ServiceUnavailable("does not answer") from error
        if read_only == "on":
            raise (ServiceUnavailable if self.must_write else ServiceWarning)("is read-only")


@dataclass
class Outbox(HealthCheck):
    """Events leave: none waits in the outbox for longer than `late_after`."""

    alias: str
    late_after: timedelta = timedelta(seconds=30)

    def run(self) -> None:
        """Look at the oldest unsent row. Raises ServiceWarning."""
        from chassis.outbox.gauges import oldest_age  # only processes with a database pay for it

        try:
            with connections[self.alias].cursor() as cursor:
                age = oldest_age(cursor)
        except DatabaseError as error:
            raise ServiceWarning("cannot be read") from error
        if age is not None and age > self.late_after.total_seconds():
            raise ServiceWarning(f"events wait for {age:.0f} s to be sent")


class KafkaClient(Protocol):
    """A producer or an admin client that lives on after the check."""

    def list_topics(self, topic: str = ..., timeout: float = ...) -> Any:
        """The cluster's metadata; raises KafkaException when no broker answers in time."""

    def poll(self, timeout: float = ...) -> int:
        """Serve callbacks."""


@cache
def _admin() -> KafkaClient:
    from chassis.kafka import clients  # only processes that ask for the broker pay for its client

    client: KafkaClient = clients.admin()
    return client


@dataclass
class Broker(HealthCheck):
    """A broker answers. Asks a client that lives anyway, else one that is made once; never opens a consumer."""

    client: Callable[[], KafkaClient] = field(default=_admin, repr=False)
    patience: float = 1.0

    def run(self) -> None:
        """Ask for the metadata of one topic. Raises ServiceUnavailable."""
        from confluent_kafka import KafkaException

        from chassis.kafka import authentication
        from chassis.kafka.clients import ANY_TOPIC

        client = self.client()
        try:
            client.list_topics(ANY_TOPIC, timeout=self.patience)
        except KafkaException as error:
            client.poll(0)  # it tells why
            rejected = authentication.is_rejected()
            reason = f"rejects the credentials: {authentication.CHECK}" if rejected else "does not answer"
            raise ServiceUnavailable(reason) from error
        finally:
            # librdkafka queues what it wants to log until someone polls.
            client.poll(0)


@dataclass
class Loop(HealthCheck):
    """The worker's loop turns."""

    heartbeat: Heartbeat = field(repr=False)
    within: float | None = None

    def run(self) -> None:
        """Look at the last beat. Raises ServiceUnavailable."""
        # A handler may take its time; what takes twice as long is stuck.
        within = self.within or max(30.0, 2 * settings.HANDLER_TIMEOUT_SECONDS)
        age = self.heartbeat.age()
        if age > within:
            raise ServiceUnavailable(f"has not turned for {age:.0f} s")


@dataclass
class Awaited(HealthCheck):
    """A part that answers a question from outside, and does for the loop what it needs."""

    part: str
    check: HealthCheck = field(repr=False)
    heartbeat: Heartbeat = field(repr=False)

    def run(self) -> None:
        """Ask it, then look at the loop. Raises ServiceUnavailable."""
        self.check.run()
        if self.heartbeat.waits_for(self.part):
            raise ServiceUnavailable(self.heartbeat.why(self.part) or "the loop waits for it")


@dataclass
class Membership(HealthCheck):
    """The worker has joined its group. A member without partitions is a member: it stands by."""

    heartbeat: Heartbeat = field(repr=False)

    def run(self) -> None:
        """Look whether the loop has said so. Raises ServiceUnavailable."""
        if not self.heartbeat.joined.is_set():
            raise ServiceUnavailable(self.heartbeat.said("group") or "has not joined yet")


@dataclass
class Handlers(HealthCheck):
    """No topic is stopped because key after key of it fails. One that is stopped is a broken deployment, as a rule: a
    rolling update must not go on with it.
    """

    heartbeat: Heartbeat = field(repr=False)

    def run(self) -> None:
        """Look whether the loop has said so. Raises ServiceUnavailable."""
        if said := self.heartbeat.said("handlers"):
            raise ServiceUnavailable(said)


@dataclass
class Warned(HealthCheck):
    """The loop has said of nothing here that it needs a person."""

    part: str
    heartbeat: Heartbeat = field(repr=False)

    def run(self) -> None:
        """Look what it has said. Raises ServiceWarning."""
        if reason := self.heartbeat.said(self.part):
            raise ServiceWarning(reason)
