"""Publishing an event again: only if every group that reads it has it in its inbox, and so recognises it as a duplicate.

The service that has published the event sends the row of its outbox again; the console itself writes to no topic. Dead letters
are redriven instead: see the page of dead letters.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from chassis.kafka import names
from chassis.kafka.records import Record
from console import operators, payloads, system
from console.failures import Away, NotFound
from console.sources.cluster import Overview
from console.sources.staff import Refused


@dataclass(frozen=True, slots=True)
class Inbox:
    """Whether an event is in the inbox of a group: `state` is known, unknown, none (it has no inbox) or unread (and why)."""

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Offer:
    """Whether an event can be published again; `reason` says why not. `service` is the one that has published it."""

    service: str
    event_id: str
    reason: str = ""


def inboxes(record: Record, groups: Iterable[str]) -> dict[str, Inbox]:
    """What the inbox of each group says of an event."""
    listed = list(groups)
    with ThreadPoolExecutor(max(1, len(listed))) as pool:
        return dict(zip(listed, pool.map(lambda group: _inbox(record, names.service(group)), listed), strict=True))


def _inbox(record: Record, service: str) -> Inbox:
    event_id = record.header("ce_id") or ""
    if not 0 < len(event_id) <= 200:
        return Inbox("unknown", "it has no id")
    try:
        answer = system.current().staff.get(service, "inbox", event_id=event_id, topic=record.topic, limit=1)
    except NotFound:
        return Inbox("unread", "not a service of this system")
    except (Away, Refused) as error:
        if isinstance(error, Refused) and error.status == 404:
            return Inbox("none", "has no inbox")
        return Inbox("unread", str(error))
    rows = answer.get("results") if isinstance(answer, dict) else None
    if not rows:
        return Inbox("unknown", "not in its inbox")
    return Inbox("known", f"in its inbox since {rows[0].get('consumed_at', '')}")


def offer(record: Record, found: Mapping[str, Inbox], overview: Overview) -> Offer:
    """Whether an event can be published again; `found` has the groups that are known to read its topic."""
    service = system.current().information.publisher(record.topic) or ""
    event_id = record.header("ce_id") or ""
    reason = _reason(service, event_id, found)
    if not reason and overview.behind:
        reason = (
            f"the offsets of {len(overview.behind)} consumer groups could not be read in time, and one of them may read this topic:"
            " with KAFKA_PREFIX, only the groups of one system are read"
        )
    return Offer(service, event_id, reason)


def _reason(service: str, event_id: str, found: Mapping[str, Inbox]) -> str:
    if not service:
        return "no service that responds publishes events to this topic"
    if not event_id:
        return "the record has no event id"
    information = system.current().information.services().get(service, {})
    if not information.get("has_database"):
        return f"{service} publishes without an outbox, so there is nothing that it could send again"
    for group, inbox in found.items():
        if inbox.state == "none":
            return f"{group} has no inbox, so it would process the event again"
        if inbox.state != "known":
            return f"the event is not known to be in the inbox of {group}: {inbox.text}"
    return ""


@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest, name: str, partition: int, offset: int) -> HttpResponse:
    """Ask whether to publish the event again, and do so."""
    console = system.current()
    record = console.topics.record(name, partition, offset)
    if names.is_dead_letter_topic(name):
        raise NotFound("A dead letter is redriven, not published again.")
    overview = console.cluster.overview()
    found = inboxes(record, [group.name for group in overview.readers.get(name, ())])
    offered = offer(record, found, overview)
    context = {"record": record, "offer": offered, "inboxes": found, "operator": operators.named(request)}
    if request.method != "POST" or offered.reason:
        return render(request, "console/topics/republish.html", context, status=409 if offered.reason else 200)
    by = operators.cleaned(request.POST.get("operator", "")) or operators.named(request)
    if not by:
        return render(request, "console/topics/republish.html", {**context, "problem": "Say who you are."}, status=400)
    try:
        console.staff.post(offered.service, "outbox/republish", {"event_id": offered.event_id}, operator=by)
    except Refused as error:
        return render(request, "console/topics/republish.html", {**context, "problem": str(error)}, status=409)
    # With the key, the list shows the event and its repetition, as soon as the relay has sent it.
    key = urlencode({"key": payloads.key_text(record.key) or ""})
    response = HttpResponseRedirect(f"{reverse('topics:browse', args=[name])}?{key}")
    operators.remember(response, by)
    return response
