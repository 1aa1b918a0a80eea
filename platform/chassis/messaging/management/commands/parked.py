from argparse import SUPPRESS, ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from chassis.deadletters import redrive
from chassis.deadletters.text import shown
from chassis.messaging.models import OutboxEvent
from chassis.outbox import parked


class Command(BaseCommand):
    """`parked`: list, retry or discard parked outbox rows."""

    help = "List this service's parked outbox rows, retry them, or discard them."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, text in (
            ("list", "list parked rows"),
            ("retry", "let the relay send them again"),
            ("discard", "never send them"),
        ):
            action = actions.add_parser(name, help=text)
            # Accept Django's own options after the action too.
            action.add_argument("--settings", default=SUPPRESS, help=SUPPRESS)
            action.add_argument("--traceback", action="store_true", default=SUPPRESS, help=SUPPRESS)
            action.add_argument("position", type=int, nargs="*", help="position of the row in the outbox")
            action.add_argument("--topic", action="append", default=[])
            action.add_argument("--key", action="append", default=[])
            if name != "list":
                action.add_argument(
                    "--all", action="store_true", help="confirm that all are meant; required without a filter"
                )
                action.add_argument(
                    "--by",
                    default=redrive.whoami(),
                    metavar="NAME",
                    help="your name for the log (default: your account)",
                )
                action.add_argument("--why", default="", metavar="TEXT", help="the reason, for the log")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Run the action. Raises CommandError in a service without a database, or if a row is not parked."""
        if settings.SERVICE_DATABASE is None:
            raise CommandError(f"{settings.SERVICE_NAME} has no database, and so no outbox.")
        chosen = self._chosen(**options)
        if action == "list":
            self._list(chosen)
            return
        if not (options["position"] or options["topic"] or options["key"] or options["all"]):
            raise CommandError("specify which (positions, --topic, --key), or --all")
        decide = parked.retry if action == "retry" else parked.discard
        done = decide(list(chosen.values_list("position", flat=True)), by=options["by"], why=options["why"])
        self.stdout.write(f"{len(done)} parked rows {'retried' if action == 'retry' else 'discarded'}")
        if missing := sorted(set(options["position"]) - set(done)):
            raise CommandError(f"not parked, or missing: {', '.join(map(str, missing))}")

    @staticmethod
    def _chosen(*, position: list[int], topic: list[str], key: list[str], **_: Any) -> QuerySet[OutboxEvent]:
        chosen = parked.rows()
        if position:
            chosen = chosen.filter(position__in=position)
        if topic:
            chosen = chosen.filter(topic__in=[*topic, *(f"{settings.KAFKA_PREFIX}{one}" for one in topic)])
        return chosen.filter(key__in=key) if key else chosen

    def _list(self, chosen: QuerySet[OutboxEvent]) -> None:
        number = 0
        for number, row in enumerate(chosen.defer("payload", "headers").iterator(), start=1):  # noqa: B007
            when = f"{row.parked_at:%Y-%m-%dT%H:%M:%SZ}"
            text = (
                f"{row.position}  {when}  {row.topic}  key={shown(row.key or '-')}  {row.event_id}  {row.parked_reason}"
            )
            self.stdout.write(text)
        self.stderr.write(f"{number} parked rows")
