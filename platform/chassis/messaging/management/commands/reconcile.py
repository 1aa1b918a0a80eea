import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from confluent_kafka import KafkaException
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError

from chassis.database.failures import is_unavailable
from chassis.deadletters.text import shown
from chassis.observability import correlation, tracing
from chassis.reconciliation.reconciliation import EPOCH, Finding, Period
from chassis.runtime.failures import DependencyDown

UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Parse a duration: `90`, `90s`, `15m`, `24h` or `7d`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not found:
        raise ArgumentTypeError(f"{text!r} is not a duration such as 90s, 15m, 24h or 7d")
    try:
        long = timedelta(**{UNITS[found[2]]: float(found[1])})
        _ = datetime.now(UTC) - long  # there is such a time
    except OverflowError:
        raise ArgumentTypeError(f"{text!r} is longer ago than the year 1") from None
    return long


def moment(text: str) -> datetime:
    """Parse a duration before now, or an ISO 8601 time with a time zone; at least EPOCH, since no record is older."""
    try:
        return max(datetime.now(UTC) - duration(text), EPOCH)
    except ArgumentTypeError:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is neither a duration such as 24h nor an ISO 8601 time") from None
        if time.tzinfo is None:
            raise ArgumentTypeError(f"{text!r} has no time zone: append Z for UTC") from None
        return max(time, EPOCH)


class Command(BaseCommand):
    """`reconcile`: find missing events and effects, report where they were last seen, and repair them on request."""

    help = (
        "Find missing events and effects, and report where each was last seen."
        " Exit status 0: nothing was found; 1: something was found; 2: the broker or the database did not respond."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            default="60s",
            metavar="DURATION",
            help="how long an event may be in transit (default 60s)",
        )
        parser.add_argument(
            "--since",
            type=moment,
            default="24h",
            metavar="DURATION|TIME",
            help="how far back events are read (default 24h)",
        )
        parser.add_argument("--republish", action="store_true", help="publish or process lost events again")

    def handle(self, *args: Any, older_than: timedelta, since: datetime, republish: bool, **options: Any) -> None:
        """Print the findings. Raises CommandError if there are any (exit status 1), or the broker does not respond (2)."""
        module = f"{settings.SERVICE_NAME}.reconciliation"
        if find_spec(module) is None:
            raise CommandError(f"{settings.SERVICE_NAME} has no reconciliation.py: there is nothing to reconcile.")
        find = import_module(module).find
        try:
            # What is published again without a row of its own has the request id and the trace of this run.
            with correlation.bind_request_id(correlation.new()), tracing.continued({}, "reconcile"):
                found, repaired = self._report(find(Period(since, datetime.now(UTC) - older_than)), republish=republish)
        except (KafkaException, DependencyDown) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            servers = settings.KAFKA_BOOTSTRAP_SERVERS
            raise CommandError(f"{reason} (KAFKA_BOOTSTRAP_SERVERS is {servers})", returncode=2) from error
        except (OperationalError, InterfaceError) as error:
            if not is_unavailable(error):
                raise
            said = " ".join(str(error).split())
            raise CommandError(f"the database cannot be used now: {said}", returncode=2) from error
        if found:
            raise CommandError(f"{found} found, {repaired} republished." if republish else f"{found} found.")
        self.stdout.write("Nothing found.")

    def _report(self, findings: Iterable[Finding], *, republish: bool) -> tuple[int, int]:
        found = repaired = 0
        for finding in findings:
            found += 1
            seconds = (datetime.now(UTC) - finding.since).total_seconds()
            self.stdout.write(shown(f"{finding.what}: missing for {seconds:.0f} s; {finding.where}"))
            done = republish and finding.repair is not None and self._repair(finding.repair)
            repaired += done
            self.stdout.write("  republished" if done else f"  {shown(finding.remedy)}")
        return found, repaired

    def _repair(self, repair: Callable[[], bool]) -> bool:
        """Repair one finding. An error of its handler is printed, so that the others are still repaired."""
        try:
            return repair()
        except (KafkaException, DependencyDown, OperationalError):
            raise
        except Exception as error:  # noqa: BLE001  a handler may raise anything
            self.stdout.write(f"  not republished: {type(error).__name__}: {error}")
            return False
