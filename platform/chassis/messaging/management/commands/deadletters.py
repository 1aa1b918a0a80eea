import json
import signal
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chassis.deadletters import edit, redrive
from chassis.deadletters.store import REASONS, Action, NoTopic, Store, StoredDeadLetter, Wanted, sources
from chassis.deadletters.text import details, line
from chassis.events.envelope import Unreadable
from chassis.kafka import names
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.runtime.failures import DependencyDown
from chassis.runtime.shutdown import Stop

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
SILENCE_SECONDS = 30.0


class Command(BaseCommand):
    """`deadletters`: list, show, redrive or discard dead letters."""

    help = "List and show this service's dead letters, redrive them to their original topic, or discard them."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listing = actions.add_parser("list", help="list unresolved dead letters")
        _common(listing)
        _filters(listing)
        listing.add_argument("--limit", type=_count, default=1000, metavar="N", help="at most N (default 1000)")
        listing.add_argument("--json", action="store_true", help="print one JSON object per line")
        listing.add_argument(
            "--resolved", action="store_true", help="list those that were redriven or discarded instead"
        )
        show = actions.add_parser("show", help="show one dead letter, including payload and traceback")
        _common(show)
        show.add_argument("id")
        for name, text in (("redrive", "send them to their original topic again"), ("discard", "give up on them")):
            deciding = actions.add_parser(name, help=text)
            _common(deciding)
            _filters(deciding)
            deciding.add_argument(
                "--all", action="store_true", help="confirm that all are meant; required without a filter"
            )
            deciding.add_argument("--limit", type=_count, metavar="N", help="at most N")
            deciding.add_argument("--rate", type=_rate, metavar="N", help="at most N per second")
            if name == "redrive":
                deciding.add_argument(
                    "--force", action="store_true", help="also those that are older than INBOX_RETENTION_HOURS"
                )
                deciding.add_argument(
                    "--payload",
                    type=Path,
                    metavar="FILE",
                    help="redrive the one with --id with this payload; the dead letter keeps the original",
                )
            deciding.add_argument("--dry-run", action="store_true", help="only list them")
            deciding.add_argument(
                "--by", default=redrive.whoami(), metavar="NAME", help="your name for the log (default: your account)"
            )
            deciding.add_argument(
                "--why", default="", metavar="TEXT", help="the reason, which is kept with the decision"
            )

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Run the action. Raises CommandError if the service consumes nothing, and if Kafka does not respond."""
        if not sources():
            raise CommandError(f"{settings.SERVICE_NAME} consumes no events, so it has no dead letters.")
        try:
            getattr(self, f"_{action}")(**options)
        except (DependencyDown, NoTopic) as error:
            raise CommandError(str(error)) from error
        except Fenced:
            raise CommandError("other runs keep taking over; run this again to continue with the rest") from None

    def _list(self, *, limit: int, resolved: bool, **options: Any) -> None:
        store = Store(Patience(SILENCE_SECONDS))
        decided = store.resolutions()
        letters = store.letters(_wanted(options), () if resolved else decided)
        found = (letter for letter in letters if (letter.id in decided) == resolved)
        self._print(islice(found, limit), as_json=options["json"], decided=decided)

    def _print(self, letters: Iterable[StoredDeadLetter], *, as_json: bool, decided: Any) -> None:
        number = 0
        for number, letter in enumerate(letters, start=1):  # noqa: B007  the last number is printed
            resolution = decided.get(letter.id)
            if as_json:
                fields = (
                    {"resolved": resolution.action, "by": resolution.by, "at": resolution.at} if resolution else None
                )
                self.stdout.write(json.dumps({**letter.summary(), "resolution": fields}))
            else:
                self.stdout.write(line(letter, resolution))
        self.stderr.write(f"{number} dead letters")

    def _show(self, *, id: str, **_: Any) -> None:
        store = Store(Patience(SILENCE_SECONDS))
        resolution = store.resolutions().get(id)
        letter = next(store.letters(Wanted(ids=frozenset([id])), ()), None)
        if letter is None:
            raise CommandError(f"no dead letter of {settings.SERVICE_NAME} has the id {id}")
        self.stdout.write(details(letter, resolution))

    def _redrive(self, **options: Any) -> None:
        self._decide("redriven", **options)

    def _discard(self, **options: Any) -> None:
        self._decide("discarded", **options)

    def _decide(self, action: Action, *, limit: int | None, rate: float | None, dry_run: bool, **options: Any) -> None:
        wanted = _wanted(options)
        if wanted.everything and not options["all"]:
            raise CommandError("specify which (--topic, --key, --reason, --cause, --since, --until, --id), or --all")
        payload = _payload(wanted, options.get("payload"))
        if dry_run:
            letters = Store(Patience(SILENCE_SECONDS)).unresolved(wanted)
            self._print(islice(letters, limit), as_json=False, decided={})
            self.stderr.write(f"dry run: without --dry-run these would be {action}")
            return
        stop = Stop(signal.SIGTERM, signal.SIGINT)
        run = redrive.Run(
            action=action, wanted=wanted, by=options["by"], rate=rate, limit=limit, force=options.get("force", False),
            why=options["why"], payload=payload, patience=Patience(SILENCE_SECONDS, stopping=lambda: stop), stop=lambda: stop,
        )  # fmt: skip
        try:
            run.run()
        finally:
            self.stdout.write(f"{len(run.result.done)} dead letters {action}")
        if run.result.forgotten:
            self.stderr.write(
                f"{len(run.result.forgotten)} are older than {settings.INBOX_RETENTION_HOURS:g} hours (INBOX_RETENTION_HOURS)"
                " and were not redriven: if this service has processed one of them since, its inbox no longer shows it."
                " Check their aggregates, then use --force."
            )
        if run.result.refused:
            refused = "\n".join(f"{letter_id}: {reason}" for letter_id, reason in run.result.refused.items())
            raise CommandError(f"{len(run.result.refused)} were refused by the broker and remain:\n{refused}")
        if run.result.forgotten:
            raise CommandError("not all were redriven")
        if run.result.stopped:
            raise CommandError("stopped before the end; run this again for the rest")


def _common(parser: ArgumentParser) -> None:
    """Accept Django's own options after the action too."""
    parser.add_argument("--settings", default=SUPPRESS, help=SUPPRESS)
    parser.add_argument("--traceback", action="store_true", default=SUPPRESS, help=SUPPRESS)


def _filters(parser: ArgumentParser) -> None:
    topics = sorted(sources().values())
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        choices=topics,
        type=lambda topic: names.resolve(topic, topics),
        help="original topic, with or without KAFKA_PREFIX",
    )
    parser.add_argument("--key", action="append", default=[])
    parser.add_argument("--reason", action="append", default=[], choices=REASONS)
    parser.add_argument("--id", action="append", default=[], help="id of the dead letter (deadletter-id)")
    parser.add_argument("--cause", action="append", default=[], help="id of a common cause, as `list --json` shows it")
    parser.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="dead-lettered at or after: 2026-11-23T17:00Z, or 2h for 2 hours ago",
    )
    parser.add_argument("--until", type=_moment, metavar="TIME", help="dead-lettered before, in the same form")


def _wanted(options: dict[str, Any]) -> Wanted:
    return Wanted(
        ids=frozenset(options["id"]),
        topics=frozenset(options["topic"]),
        keys=frozenset(options["key"]),
        reasons=frozenset(options["reason"]),
        causes=frozenset(options["cause"]),
        since=options["since"],
        until=options["until"],
    )


def _payload(wanted: Wanted, file: Path | None) -> bytes | None:
    """The payload in the file, which the service must be able to read. Raises CommandError."""
    if file is None:
        return None
    if len(wanted.ids) != 1:
        raise CommandError("--payload is for one dead letter: add its --id")
    letter = next(Store(Patience(SILENCE_SECONDS)).unresolved(wanted), None)
    if letter is None:
        raise CommandError("no unresolved dead letter matches")
    try:
        payload = file.read_bytes()
        edit.check(letter, payload)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    except Unreadable as error:
        raise CommandError(f"{settings.SERVICE_NAME} could not read this payload: {error}") from None
    return payload


def _moment(text: str) -> datetime:
    """Parse an RFC 3339 time (UTC without a time zone), or how long ago: 90s, 15m, 2h, 3d."""
    try:
        if text[-1:] in UNITS and text[:-1].replace(".", "", 1).isdigit():
            return datetime.now(UTC) - timedelta(**{UNITS[text[-1]]: float(text[:-1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is not a time such as 2026-11-23T17:00Z or 2h") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a positive number")
    return rate
