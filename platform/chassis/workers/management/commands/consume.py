import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chassis.messaging.consumer import Consumer
from chassis.messaging.kafka_transaction import Fenced
from chassis.messaging.loop import Overdue, Stop
from chassis.messaging.registry import handlers
from chassis.workers import worker


class Command(BaseCommand):
    """`consume`: react to events, until SIGTERM; then finish what is in hand, commit, leave the group, exit 0."""

    help = "Consume the events that this service's handlers.py names. Any number of replicas may run."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the loop. Raises CommandError when the service reacts to nothing, or another process took its place."""
        if not handlers():
            raise CommandError(f"{settings.SERVICE_NAME} reacts to no events: there is nothing to consume.")
        stop = Stop(signal.SIGTERM, signal.SIGINT)
        with worker.serving("consume") as heartbeat:
            try:
                consumer = Consumer(stop, heartbeat)
                consumer.run()
            except Fenced as error:
                raise CommandError(f"another process has this worker's place (CONSUMER_ID): {error}") from error
            except Overdue:
                raise CommandError(
                    "told to stop, but the broker did not answer: what was open will be delivered again"
                ) from None
