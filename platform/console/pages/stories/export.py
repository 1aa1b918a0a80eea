"""A story as JSON, for other tools and for bug reports. Personal data is hidden in it."""

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from console import system
from console.pages.stories import events
from console.pages.stories.gathering import summary_of
from console.stores.model import Line, Span, Summary


@require_safe
def as_json(request: HttpRequest, any_id: str) -> JsonResponse:
    """A story, by its trace id or its request id: with `?events=1` with its events, with `?download=1` as a file."""
    story = summary_of(any_id)
    stories = system.current().stories
    content = {
        **story.as_dict(),
        "ids": story.ids.split(),
        "linked": stories.linked(story.trace_id),
        "span_list": [_span(span) for span in stories.spans_of(story.trace_id)],
        "line_list": [_line(line) for line in stories.lines_of(story.trace_id)],
    }
    if request.GET.get("events") == "1":
        content["event_list"], content["problems"] = _events(story)
    response = JsonResponse(content)
    if request.GET.get("download") == "1":
        response["Content-Disposition"] = f'attachment; filename="story-{story.trace_id}.json"'
    return response


def _events(story: Summary) -> tuple[list[dict[str, Any]], list[str]]:
    places, problems = events.places_of(story)
    found = []
    for event in events.read_all(story, places[: events.MOST]):
        if "problem" in event:
            problems.append(f"{event['place'].text}: {event['problem']}")
        else:
            names = ("topic", "event_id", "key", "request_id", "trace_id", "state", "payload", "headers")
            found.append({"place": event["place"].text, **{name: event[name] for name in names}})
    if len(places) > events.MOST:
        problems.append(f"only {events.MOST} of {len(places)} events are in it")
    return found, problems


def _span(span: Span) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "kind": span.kind,
        "process": span.process,
        "service": span.service,
        "instance": span.instance,
        "begun": span.begun,
        "ended": span.ended,
        "attributes": span.attributes,
        "events": [{"name": one.name, "at": one.at, "attributes": one.attributes} for one in span.happenings],
        "links": [{"trace_id": one.trace_id, "span_id": one.span_id} for one in span.links],
        "error": span.error,
    }


def _line(line: Line) -> dict[str, Any]:
    return {"process": line.process, "at": line.at, "level": line.level, "text": line.text}
