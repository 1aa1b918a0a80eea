import time
from argparse import ArgumentParser
from typing import Any

from confluent_kafka import KafkaException
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chassis.messaging import kafka, topics


class Command(BaseCommand):
    """`topics`: make the service's topics, dead-letter topics included. Safe to run again, and by two at once."""

    help = "Make the topics that this service publishes, and the dead-letter topics of those it consumes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait", type=float, default=30.0, metavar="SECONDS", help="for a broker that is not up yet"
        )

    def handle(self, *args: Any, wait: float, **options: Any) -> None:
        """Make them, and say which were made. Raises CommandError when the broker cannot be reached."""
        if not topics.wanted(1):
            self.stdout.write(f"{settings.SERVICE_NAME} publishes and consumes nothing: it has no topics.")
            return
        made, there = self._ensure(time.monotonic() + wait)
        for name in made:
            self.stdout.write(f"{name}: made")
        for name in there:
            self.stdout.write(f"{name}: there")

    @staticmethod
    def _ensure(deadline: float) -> tuple[list[str], list[str]]:
        client = kafka.admin()
        while True:
            try:
                return topics.ensure(client, timeout=max(1.0, min(10.0, deadline - time.monotonic())))
            except KafkaException as exception:
                if time.monotonic() > deadline or not exception.args[0].retriable():
                    servers = settings.KAFKA_BOOTSTRAP_SERVERS
                    raise CommandError(
                        f"{exception.args[0].str()} (KAFKA_BOOTSTRAP_SERVERS is {servers})"
                    ) from exception
