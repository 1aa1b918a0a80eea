import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chassis.kafka import clients
from chassis.topology import topics
from chassis.topology.topics import Difference

T = TypeVar("T")

NOT_UP_YET = frozenset(
    {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
)


class Command(BaseCommand):
    """`topics`: create the service's topics and dead-letter topics. It can be repeated, and run concurrently.

    Existing topics are not changed. Configuration drift is reported, and corrected only on request.
    """

    help = "Create the topics that this service publishes, and the dead-letter topics of those that it consumes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait", type=float, default=30.0, metavar="SECONDS", help="how long to wait for the broker (default 30)"
        )
        parser.add_argument("--apply", action="store_true", help="correct the configuration of existing topics")
        parser.add_argument(
            "--add-partitions",
            action="store_true",
            help="with --apply, also add partitions: keys move to other partitions, so let the consumers finish first",
        )

    def handle(self, *args: Any, wait: float, apply: bool, add_partitions: bool, **options: Any) -> None:
        """Create the topics, and print the result. Raises CommandError if the broker is unreachable, or refuses."""
        if add_partitions and not apply:
            raise CommandError("--add-partitions requires --apply.")
        if not topics.wanted(1):
            self.stdout.write(f"{settings.SERVICE_NAME} publishes and consumes nothing: it has no topics.")
            return
        client, deadline = clients.admin(), time.monotonic() + wait
        created, existing = self._retry(deadline, lambda timeout: topics.ensure(client, timeout=timeout))
        found = self._retry(deadline, lambda timeout: topics.differences(client, existing, timeout=timeout))
        changed = topics.apply(client, found, add_partitions=add_partitions) if apply else []
        for name in created:
            self.stdout.write(f"{name}: created")
        for name in existing:
            self.stdout.write(f"{name}: exists")
            for difference in found:
                if difference.topic == name:
                    self.stdout.write(f"  {difference}{self._remark(difference, changed)}")
        if left := len(found) - len(changed):
            self.stdout.write(f"{left} of {len(found)} differences remain.")

    @staticmethod
    def _remark(difference: Difference, changed: list[Difference]) -> str:
        if difference in changed:
            return ": changed"
        if difference.is_config:
            return " (--apply changes it)"
        if difference.is_more_partitions:
            return " (--apply --add-partitions changes it, and moves keys: see docs/runbook.md)"
        return " (this command cannot change it: see docs/runbook.md)"

    @staticmethod
    def _retry(deadline: float, request: Callable[[float], T]) -> T:
        while True:
            try:
                return request(max(1.0, min(10.0, deadline - time.monotonic())))
            except KafkaException as exception:
                error = exception.args[0]
                if time.monotonic() > deadline or not (error.retriable() or error.code() in NOT_UP_YET):
                    servers = settings.KAFKA_BOOTSTRAP_SERVERS
                    raise CommandError(
                        f"{exception.args[0].str()} (KAFKA_BOOTSTRAP_SERVERS is {servers})"
                    ) from exception
