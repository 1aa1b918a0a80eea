"""The events of a story with payloads and headers: from the services' outboxes, or else from the topics.

Personal data is hidden. Who asks to see it is logged: by the service whose outbox it is in, or by the console for a record.
"""

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe
from pydantic import BaseModel, ValidationError

from chassis.events import masking
from chassis.kafka import names
from chassis.kafka.records import Record
from chassis.observability import privacy, tracing
from chassis.story.facts import OutboxRow, Question
from console import operators, system
from console.failures import Away, NotFound
from console.pages.stories import facts
from console.pages.stories.gathering import summary_of
from console.payloads import key_text, line, shown_answer, shown_headers
from console.sources.staff import Refused
from console.stores import otlp
from console.stores.model import Span, Summary

log = structlog.get_logger(__name__)

MOST = 40
"""So many events of a story are shown."""
AT_ONCE = 4
LONGEST_KEY = 200
"""Maximum number of characters of a key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event can be read: at a position of a service's outbox, or on a topic."""

    service: str = ""
    position: int = 0
    topic: str = ""
    partition: int = 0
    offset: int = 0

    @property
    def text(self) -> str:
        """For people."""
        if self.service:
            return f"outbox of {self.service}, row {self.position}"
        return f"{self.topic}/{self.partition} at offset {self.offset}"


class Payload(BaseModel):
    """A payload as `chassis.events.masking` shows it."""

    size: int
    encoding: str
    content: str | None
    masked: bool
    truncated: bool


class Event(BaseModel):
    """An event, as a service answers, or as it is read from a topic."""

    topic: str
    event_id: str
    key: str | None
    state: str
    trace_id: str
    request_id: str
    payload: Payload
    headers: list[tuple[str, Any]] | None


@require_safe
def events(request: HttpRequest, any_id: str) -> HttpResponse:
    """All events, without personal data."""
    story = summary_of(any_id)
    places, problems = places_of(story)
    values = {
        "story": story,
        "events": read_all(story, places[:MOST]),
        "left": max(0, len(places) - MOST),
        "problems": problems,
        "operator": operators.name_of(request),
    }
    return render(request, "console/stories/events.html", values)


@require_POST
def reveal(request: HttpRequest, any_id: str) -> HttpResponse:
    """One event, with personal data."""
    story = summary_of(any_id)
    place = _place(request.POST)
    by = operators.name_of(request)
    event = read_or_tell(story, place, reveal_to=by)
    return render(request, "console/stories/event.html", {"story": story, "event": event, "operator": by})


def places_of(story: Summary) -> tuple[list[Place], list[str]]:
    """Where the events of a story are, in the order in which they were written; and which services did not answer."""
    known = facts.ask(Question(ids=frozenset(filter(None, (story.trace_id, story.request_id)))))
    problems = [f"{one.service}: {problem}" for one in known for problem in one.problems]
    rows = [(one.service, row) for one in known for row in one.outbox if _is_of(row, story)]
    rows.sort(key=lambda pair: (pair[1].created_at is None, pair[1].created_at))
    places = [Place(service=service, position=row.position) for service, row in rows]
    return places + _on_topics(
        system.current().stories.spans_of(story.trace_id), {row.event_id for _, row in rows}
    ), problems


def _is_of(row: OutboxRow, story: Summary) -> bool:
    return row.trace_id == story.trace_id or (bool(story.request_id) and row.request_id == story.request_id)


def _on_topics(spans: Iterable[Span], known: set[str]) -> list[Place]:
    """The events that are in no outbox, where their consumers have read them."""
    found: dict[str, Place] = {}
    for span in spans:
        values = span.attributes
        event_id, topic = values.get("messaging.message.id"), values.get("messaging.destination.name")
        partition = otlp.number(values.get("messaging.destination.partition.id"))
        offset = otlp.number(values.get("messaging.kafka.offset"))
        if not isinstance(event_id, str) or not isinstance(topic, str) or partition is None or offset is None:
            continue
        if event_id and event_id not in known and names.is_legal(topic):
            found.setdefault(event_id, Place(topic=topic, partition=partition, offset=offset))
    return list(found.values())


def read_all(story: Summary, places: Iterable[Place]) -> list[dict[str, Any]]:
    """Events for a template, without personal data.

    Once Kafka, or a service, could not be reached, it is not asked for more of them: each would wait for it as long again.
    """
    away: dict[str, str] = {}

    def one(place: Place) -> dict[str, Any]:
        if problem := away.get(place.service):
            return {"place": place, "problem": problem}
        try:
            return {"place": place, **read(story, place)}
        except Away as error:
            away[place.service] = str(error)
            return {"place": place, "problem": str(error)}
        except (NotFound, Refused) as error:
            return {"place": place, "problem": str(error)}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, places))


def read_or_tell(story: Summary, place: Place, *, reveal_to: str = "") -> dict[str, Any]:
    """An event for a template, or `problem`, why it cannot be read."""
    try:
        return {"place": place, **read(story, place, reveal_to=reveal_to)}
    except (Away, NotFound, Refused) as error:
        return {"place": place, "problem": str(error)}


def read(story: Summary, place: Place, *, reveal_to: str = "") -> dict[str, Any]:
    """An event with `payload` and `headers`, with personal data if the name of who sees it is given: it is logged.

    Raises Away, NotFound and Refused.
    """
    found = _in_outbox(place, reveal_to=reveal_to) if place.service else _on_topic(place, reveal=bool(reveal_to))
    if not (found.trace_id == story.trace_id or (story.request_id and found.request_id == story.request_id)):
        raise NotFound("This event belongs to another story.")
    if reveal_to and not place.service:
        log.info("personal data revealed", by=reveal_to, what="record", place=place.text)
    values = found.model_dump()
    return {
        **values,
        "is_revealed": bool(reveal_to),
        "is_masked": found.payload.masked or any(value == privacy.HIDDEN for _, value in found.headers or ()),
        "key": None if found.key is None else line(found.key, LONGEST_KEY),
        "content": shown_answer(values["payload"]),
        "header_rows": shown_headers(found.headers),
    }


def _in_outbox(place: Place, *, reveal_to: str) -> Event:
    query = {"reveal": "1"} if reveal_to else {}
    try:
        path = f"outbox/{place.position}"
        return Event.model_validate(system.current().staff.get(place.service, path, operator=reveal_to, **query))
    except ValidationError:
        raise NotFound(
            f"{place.service} answered with something else than an event: is it of another version?"
        ) from None


def _on_topic(place: Place, *, reveal: bool) -> Event:
    record: Record = system.current().topics.record(place.topic, place.partition, place.offset)
    return Event(
        topic=record.topic,
        event_id=record.header("ce_id") or "",
        key=key_text(record.key),
        state="on the topic",
        trace_id=tracing.ids_of(record.header("traceparent"))[0],
        request_id=record.header("requestId") or "",
        payload=Payload(**masking.payload(record.value, reveal=reveal)),
        headers=[(name, value) for name, value in masking.headers(record.headers, reveal=reveal)],
    )


def _place(form: Mapping[str, str]) -> Place:
    try:
        if form.get("service"):
            return Place(service=form["service"][:40], position=_number(form["position"]))
        return Place(topic=form["topic"][:249], partition=_number(form["partition"]), offset=_number(form["offset"]))
    except (KeyError, ValueError):
        raise NotFound("Which event? Use the button beside it.") from None


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise ValueError(text)
    return int(text)
