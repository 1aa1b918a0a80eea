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
    """`topics`: make the service's topics, dead-letter topics included. Safe to run again, and by two at once.

    A topic that is there stays as it is; what is otherwise on it than it would be made today is said, and changed only
    on request.
    """

    help = "Make the topics that this service publishes, and the dead-letter topics of those it consumes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait", type=float, default=30.0, metavar="SECONDS", help="for a broker that is not up yet"
        )
        parser.add_argument("--apply", action="store_true", help="change the configuration of topics that are there")
        parser.add_argument(
            "--add-partitions",
            action="store_true",
            help="with --apply, add partitions too: keys move to other partitions, so first let the consumers finish",
        )

    def handle(self, *args: Any, wait: float, apply: bool, add_partitions: bool, **options: Any) -> None:
        """Make them, and say which were made. Raises CommandError when the broker cannot be reached, or refuses."""
        if add_partitions and not apply:
            raise CommandError("--add-partitions goes with --apply.")
        if not topics.wanted(1):
            self.stdout.write(f"{settings.SERVICE_NAME} publishes and consumes nothing: it has no topics.")
            return
        client, deadline = clients.admin(), time.monotonic() + wait
        made, there = self._insist(deadline, lambda timeout: topics.ensure(client, timeout=timeout))
        found = self._insist(deadline, lambda timeout: topics.differences(client, there, timeout=timeout))
        changed = topics.apply(client, found, add_partitions=add_partitions) if apply else []
        for name in made:
            self.stdout.write(f"{name}: made")
        for name in there:
            self.stdout.write(f"{name}: there")
            for difference in found:
                if difference.topic == name:
                    self.stdout.write(f"  {difference}{self._remark(difference, changed)}")
        if left := len(found) - len(changed):
            self.stdout.write(f"{left} of {len(found)} differences left as they are.")

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
    def _insist(deadline: float, ask: Callable[[float], T]) -> T:
        while True:
            try:
                return ask(max(1.0, min(10.0, deadline - time.monotonic())))
            except KafkaException as exception:
                error = exception.args[0]
                if time.monotonic() > deadline or not (error.retriable() or error.code() in NOT_UP_YET):
                    servers = settings.KAFKA_BOOTSTRAP_SERVERS
                    raise CommandError(
                        f"{exception.args[0].str()} (KAFKA_BOOTSTRAP_SERVERS is {servers})"
                    ) from exception
