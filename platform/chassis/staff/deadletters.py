"""`GET /staff/dead-letters`: dead letters in groups that have a common cause, and one dead letter in full."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from chassis.deadletters.cause import Cause
from chassis.deadletters.store import NoTopic, Resolution, Store, StoredDeadLetter, Wanted, sources
from chassis.events import masking
from chassis.http.errors import Unavailable
from chassis.kafka import names
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.observability import privacy
from chassis.runtime.failures import DependencyDown
from chassis.staff.access import StaffView, who
from chassis.staff.outbox import RevealParameters, reveal_permissions
from chassis.staff.parameters import IdsField, Parameters, read

log = structlog.get_logger(__name__)

SILENCE_SECONDS = 5.0
"""How long Kafka may not respond before the response is 503."""
LOOK_SECONDS = 25.0
"""How long a request may read dead letters."""

MOST_GROUPS = 1_000
"""Maximum number of groups in a response: a foreign record may state any error."""

LONGEST = 300
"""Maximum number of characters of a field of a dead letter."""

GROUP = r"^[0-9a-f]{16}\Z"


class DeadLetterParameters(Parameters):
    """The filters of the list. `newest` is how many records of each partition are read, the newest."""

    state = serializers.ChoiceField(choices=["unresolved", "resolved", "all"], default="unresolved")
    topic = serializers.CharField(required=False, max_length=249)
    reason = serializers.CharField(required=False, max_length=50)
    error_type = serializers.CharField(required=False, max_length=100)
    key = serializers.CharField(required=False, max_length=1_000, trim_whitespace=False)
    id = IdsField(required=False)
    group = serializers.RegexField(GROUP, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
    newest = serializers.IntegerField(min_value=1, max_value=100_000, default=1_000)
    members = serializers.IntegerField(min_value=0, max_value=1_000, default=20)


@dataclass(slots=True)
class Group:
    """Dead letters with a common cause; of their `members` only the newest are kept."""

    cause: Cause
    most: int
    count: int = 0
    first_seen: str = ""
    last_seen: str = ""
    error: str = ""
    members: list[dict[str, Any]] = field(default_factory=list)

    def add(self, member: dict[str, Any]) -> None:
        """Count a dead letter."""
        self.count += 1
        at = member["at"] or ""
        self.first_seen = min(filter(None, (self.first_seen, at)), default="")
        if at >= self.last_seen:
            self.last_seen, self.error = at, member["error"][:300]
        self.members.append(member)
        if len(self.members) > 2 * self.most + 100:
            self._forget()

    def as_json(self) -> dict[str, Any]:
        """The group, with its newest members first."""
        self._forget()
        return {
            "id": self.cause.id,
            "topic": _logical(self.cause.topic),
            "group": _logical(self.cause.consumer_group),
            "reason": self.cause.reason,
            "error_type": self.cause.error_type,
            "place": self.cause.place,
            "error": self.error,
            "count": self.count,
            "first_seen": self.first_seen or None,
            "last_seen": self.last_seen or None,
            "members": self.members,
        }

    def _forget(self) -> None:
        self.members.sort(key=lambda member: member["at"] or "", reverse=True)
        del self.members[self.most :]


class DeadLettersView(StaffView):
    """Groups of dead letters, the one with the newest dead letter first."""

    permissions = {"GET": ("messaging.view_deadletter",)}

    def get(self, request: Request) -> Response:
        """The groups. `partly` says that older records were not read, or that there are more groups."""
        asked = read(DeadLetterParameters, request)
        if not sources():
            return Response({"groups": [], "total": 0, "partly": False})
        with kafka():
            store = look(newest=asked["newest"])
            resolutions = store.resolutions()
            found = list(groups(_members(store, asked, resolutions), asked["members"]))
        found.sort(key=lambda group: group.last_seen, reverse=True)
        return Response(
            {
                "groups": [group.as_json() for group in found[:MOST_GROUPS]],
                "total": sum(group.count for group in found),
                "partly": store.partly or len(found) > MOST_GROUPS,
            }
        )


class DeadLetterView(StaffView):
    """One dead letter, with payload, headers and traceback."""

    def required_permissions(self, request: Request) -> tuple[str, ...]:
        """Personal data requires a permission of its own."""
        return reveal_permissions(request, "deadletter")

    def get(self, request: Request, letter_id: str) -> Response:
        """The dead letter. With `?reveal=1` with personal data, which is logged."""
        reveal: bool = read(RevealParameters, request)["reveal"]
        letter, resolution = find(letter_id)
        kept = letter.record
        if reveal:
            log.info("personal data revealed", by=who(request), what="dead letter", deadletter_id=letter.id)
        return Response(
            {
                **member(letter, resolution),
                "group": letter.cause.id,
                "payload": masking.payload(kept.value, reveal=reveal),
                "headers": masking.headers(letter.original_headers(), reveal=reveal),
                "traceback": privacy.scrub_error(letter.traceback),
                "edited_by": letter.header("edited-by") or None,
                "kept_at": {"topic": kept.topic, "partition": kept.partition, "offset": kept.offset},
            }
        )


def find(letter_id: str) -> tuple[StoredDeadLetter, Resolution | None]:
    """A dead letter of the service, and its resolution. Raises Http404, and Unavailable if Kafka does not respond."""
    if not sources():
        raise Http404
    with kafka():
        store = look()
        resolution = store.resolutions().get(letter_id)
        letter = next(store.letters(Wanted(ids=frozenset([letter_id])), ()), None)
    if letter is None:
        raise Http404
    return letter, resolution


@contextmanager
def kafka() -> Iterator[None]:
    """Run the body. Raises Unavailable if Kafka does not respond in time, or a topic is missing."""
    try:
        yield
    except (DependencyDown, NoTopic) as error:
        raise Unavailable(str(error)) from None
    except Fenced:
        raise Unavailable("Dead letters are being redriven or discarded elsewhere; try again afterwards.") from None


def look(*, newest: int | None = None) -> Store:
    """The dead letters, for a person who waits."""
    return Store(Patience(SILENCE_SECONDS, LOOK_SECONDS), newest=newest)


def groups(members: Iterable[tuple[Cause, dict[str, Any]]], most: int) -> Iterable[Group]:
    """Group dead letters by their cause; each group keeps `most` of them."""
    found: dict[Cause, Group] = {}
    for cause, one in members:
        if cause not in found:
            found[cause] = Group(cause, most)
        found[cause].add(one)
    return found.values()


def member(letter: StoredDeadLetter, resolution: Resolution | None) -> dict[str, Any]:
    """A dead letter without its content, as JSON."""
    decision = None
    if resolution is not None:
        names_of = ("action", "by", "at", "why", "edited")
        decision = {name: getattr(resolution, name) for name in names_of}
    # A foreign record may contain any text, of any length.
    facts = {name: value[:LONGEST] if isinstance(value, str) else value for name, value in letter.summary().items()}
    return {
        **facts,
        "at": _utc(letter.died_at),
        "error": privacy.scrub_error(letter.header("error")[:2_000]),
        "topic": _logical(letter.topic),
        "resolution": decision,
    }


def _members(
    store: Store, asked: Mapping[str, Any], resolutions: Mapping[str, Resolution]
) -> Iterator[tuple[Cause, dict[str, Any]]]:
    skipped = resolutions if asked["state"] == "unresolved" else ()
    for letter in store.letters(wanted(asked), skipped):
        resolution = resolutions.get(letter.id)
        if asked["state"] == "resolved" and resolution is None:
            continue
        cause = letter.cause
        if asked.get("error_type", cause.error_type) == cause.error_type:
            yield cause, member(letter, resolution)


def wanted(asked: Mapping[str, Any]) -> Wanted:
    """The filter that these parameters describe."""

    def one(name: str) -> frozenset[str]:
        return frozenset([asked[name]] if name in asked else ())

    topics = {names.resolve(topic, sources().values()) for topic in one("topic")}
    return Wanted(
        ids=asked.get("id", frozenset()),
        topics=frozenset(topics),
        keys=one("key"),
        reasons=one("reason"),
        causes=one("group"),
        since=asked.get("since"),
        until=asked.get("until"),
    )


def _utc(time: datetime | None) -> str | None:
    """A time in RFC 3339; None if there is none, or not in UTC."""
    try:
        return None if time is None else time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return None


def _logical(name: str) -> str:
    return name.removeprefix(settings.KAFKA_PREFIX)
