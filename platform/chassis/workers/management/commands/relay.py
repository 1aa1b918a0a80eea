import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chassis.database import session
from chassis.outbox.gauges import measuring
from chassis.outbox.relay import Relay
from chassis.runtime.shutdown import Stop
from chassis.workers import worker
from chassis.workers.housekeeping import housekeeping


class Command(BaseCommand):
    """`relay`: send the rows of the service's outbox until SIGTERM. Other relays stand by to take over."""

    help = "Send the rows of this service's outbox to Kafka. One relay is active, any others stand by."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the loop. Raises CommandError in a service without a database, and behind a pooler."""
        if settings.SERVICE_DATABASE is None:
            raise CommandError(f"{settings.SERVICE_NAME} has no database, and so no outbox: there is nothing to relay.")
        session.bypass_pooler()
        stop = Stop(signal.SIGTERM, signal.SIGINT)
        with worker.serving("relay") as heartbeat:
            relay = Relay(stop, heartbeat)
            with housekeeping(lambda: relay.active), measuring(relay):
                try:
                    relay.run()
                except session.Pooled as error:
                    raise CommandError(str(error)) from None
