"""Stories: each request, followed through all processes."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe

from console import system
from console.failures import NotFound
from console.stores.model import Line, Span, Summary

SHOWN = 100


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The newest stories."""
    stories = system.current().stories
    return render(request, "console/stories/index.html", {"stories": stories.newest(SHOWN), "known": len(stories)})


@require_safe
def as_json(request: HttpRequest, any_id: str) -> JsonResponse:
    """A story as JSON: by its trace id or its request id."""
    story = _story(any_id)
    stories = system.current().stories
    return JsonResponse(
        {
            **story.as_dict(),
            "linked": stories.linked(story.trace_id),
            "span_list": [_span(span) for span in stories.spans_of(story.trace_id)],
            "line_list": [_line(line) for line in stories.lines_of(story.trace_id)],
        }
    )


def _story(any_id: str) -> Summary:
    story = system.current().stories.summary(any_id)
    if story is None:
        raise NotFound(
            f"No story with the id {any_id[:80]!r} is in memory: the oldest ones are dropped, and all when the console stops."
        )
    return story


def _span(span: Span) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "kind": span.kind,
        "process": span.process,
        "service": span.service,
        "begun": span.begun,
        "ended": span.ended,
        "attributes": span.attributes,
        "events": [{"name": one.name, "at": one.at, "attributes": one.attributes} for one in span.happenings],
        "links": [{"trace_id": one.trace_id, "span_id": one.span_id} for one in span.links],
        "error": span.error,
    }


def _line(line: Line) -> dict[str, Any]:
    return {"process": line.process, "at": line.at, "level": line.level, "text": line.text}


urlpatterns = [
    path("stories", index, name="index"),
    path("stories/<str:any_id>.json", as_json, name="json"),
]
