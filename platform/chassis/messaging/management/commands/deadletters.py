import json
import signal
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chassis.deadletters import redrive
from chassis.deadletters.store import REASONS, Action, NoTopic, Store, StoredDeadLetter, Wanted, sources
from chassis.deadletters.text import details, line
from chassis.kafka import names
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.runtime.failures import DependencyDown
from chassis.runtime.shutdown import Stop

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
SILENCE_SECONDS = 30.0


class Command(BaseCommand):
    """`deadletters`: look at what nobody could handle; send it back, or be done with it."""

    help = "List and show this service's dead letters, redrive them to their topic, or discard them."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listing = actions.add_parser("list", help="those about which nothing was decided")
        _common(listing)
        _filters(listing)
        listing.add_argument("--limit", type=_count, default=1000, metavar="N", help="1000 by default")
        listing.add_argument("--json", action="store_true", help="one JSON object a line")
        listing.add_argument("--resolved", action="store_true", help="those that were redriven or discarded instead")
        show = actions.add_parser("show", help="all about one, payload and traceback included")
        _common(show)
        show.add_argument("id")
        for name, text in (("redrive", "send them to their topic again"), ("discard", "be done with them")):
            deciding = actions.add_parser(name, help=text)
            _common(deciding)
            _filters(deciding)
            deciding.add_argument("--all", action="store_true", help="really all of them")
            deciding.add_argument("--limit", type=_count, metavar="N", help="no more than N")
            deciding.add_argument("--rate", type=_rate, metavar="N", help="no more than N a second")
            if name == "redrive":
                deciding.add_argument(
                    "--force", action="store_true", help="also those that died longer ago than INBOX_RETENTION_HOURS"
                )
            deciding.add_argument("--dry-run", action="store_true", help="only say which")
            deciding.add_argument("--by", default=redrive.whoami(), metavar="NAME", help="who decides; you by default")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Do it. Raises CommandError when the service consumes nothing, and when Kafka does not answer."""
        if not sources():
            raise CommandError(f"{settings.SERVICE_NAME} reacts to no events: it has no dead letters.")
        try:
            getattr(self, f"_{action}")(**options)
        except (DependencyDown, NoTopic) as error:
            raise CommandError(str(error)) from error
        except Fenced:
            raise CommandError("other runs keep taking over; what was decided is written, run this again") from None

    def _list(self, *, limit: int, resolved: bool, **options: Any) -> None:
        store = Store(Patience(SILENCE_SECONDS))
        decided = store.resolutions()
        letters = store.letters(_wanted(options), () if resolved else decided)
        found = (letter for letter in letters if (letter.id in decided) == resolved)
        self._print(islice(found, limit), as_json=options["json"], decided=decided)

    def _print(self, letters: Iterable[StoredDeadLetter], *, as_json: bool, decided: Any) -> None:
        number = 0
        for number, letter in enumerate(letters, start=1):  # noqa: B007  it is the last one that counts
            resolution = decided.get(letter.id)
            if as_json:
                what = {"resolved": resolution.action, "by": resolution.by, "at": resolution.at} if resolution else None
                self.stdout.write(json.dumps({**letter.summary(), "resolution": what}))
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
            raise CommandError("say which (--topic, --key, --reason, --since, --until, --id), or --all")
        if dry_run:
            letters = Store(Patience(SILENCE_SECONDS)).unresolved(wanted)
            self._print(islice(letters, limit), as_json=False, decided={})
            self.stderr.write(f"nothing was done; without --dry-run these would be {action}")
            return
        told = Stop(signal.SIGTERM, signal.SIGINT)
        run = redrive.Run(
            action=action, wanted=wanted, by=options["by"], rate=rate, limit=limit, force=options.get("force", False),
            patience=Patience(SILENCE_SECONDS, told=lambda: told), stop=lambda: told,
        )  # fmt: skip
        try:
            run.run()
        finally:
            self.stdout.write(f"{len(run.result.done)} dead letters {action}")
        if run.result.forgotten:
            self.stderr.write(
                f"{len(run.result.forgotten)} died more than {settings.INBOX_RETENTION_HOURS:g} hours ago"
                " (INBOX_RETENTION_HOURS) and stay: should this service have handled one since, its inbox has forgotten that."
                " Look at their aggregates, then use --force."
            )
        if run.result.refused:
            refused = "\n".join(f"{letter_id}: {reason}" for letter_id, reason in run.result.refused.items())
            raise CommandError(f"{len(run.result.refused)} were refused by the broker and stay:\n{refused}")
        if run.result.forgotten:
            raise CommandError("not all were redriven")
        if run.result.stopped:
            raise CommandError("stopped before the end; run this again for the rest")


def _common(parser: ArgumentParser) -> None:
    """What Django takes in front of the action is taken behind it, too."""
    parser.add_argument("--settings", default=SUPPRESS, help=SUPPRESS)
    parser.add_argument("--traceback", action="store_true", default=SUPPRESS, help=SUPPRESS)


def _filters(parser: ArgumentParser) -> None:
    topics = sorted(sources().values())
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        choices=topics,
        type=lambda said: names.wanted(said, topics),
        help="that it came from; KAFKA_PREFIX may be left out",
    )
    parser.add_argument("--key", action="append", default=[])
    parser.add_argument("--reason", action="append", default=[], choices=REASONS)
    parser.add_argument("--id", action="append", default=[], help="of the letter (deadletter-id)")
    parser.add_argument("--since", type=_moment, metavar="TIME", help="died at or after: 2026-11-23T17:00Z, or 2h ago")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="died before: the same")


def _wanted(options: dict[str, Any]) -> Wanted:
    return Wanted(
        ids=frozenset(options["id"]),
        topics=frozenset(options["topic"]),
        keys=frozenset(options["key"]),
        reasons=frozenset(options["reason"]),
        since=options["since"],
        until=options["until"],
    )


def _moment(text: str) -> datetime:
    """An RFC 3339 time (UTC if it does not say), or how long ago: 90s, 15m, 2h, 3d."""
    try:
        if text[-1:] in UNITS and text[:-1].replace(".", "", 1).isdigit():
            return datetime.now(UTC) - timedelta(**{UNITS[text[-1]]: float(text[:-1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is no time; 2026-11-23T17:00Z or 2h") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return rate
