"""The list of stories, newest first, and the stream that keeps it up to date."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from console import htmx, sse, system
from console.pages.stories.filters import STATES, Filters
from console.sequence.model import duration_text
from console.stores.model import Summary
from services import SERVICES

SHOWN = 100
LEAST_SECONDS, MOST_SECONDS = 0.3, 2.0
"""The limits of the interval at which the list is sent while it changes all the time."""
SHARE = 1 / 16
"""The part of a processor that an open list may take."""


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The newest stories that the filters want, or those before a number."""
    filters = Filters.of(request.GET)
    before = _number(request.GET.get("before", ""))
    is_live = before is None and request.GET.get("pause") != "1"
    values = {
        **_values(filters, before),
        "states": STATES,
        "services": [one.name for one in SERVICES],
        "is_live": is_live,
        "is_paused": request.GET.get("pause") == "1",
        "known": len(system.current().stories),
    }
    is_part = htmx.target(request) == "stories"
    return render(request, "console/stories/result.html" if is_part else "console/stories/index.html", values)


@require_safe
def stream(request: HttpRequest) -> StreamingHttpResponse:
    """The rows of the list, whenever they change."""
    return sse.stream(_events(Filters.of(request.GET)))


def _events(filters: Filters) -> Iterator[str]:
    console, change, last = system.current(), -1, ""
    while True:
        latest = console.stories.wait(change, sse.BEAT_SECONDS)
        if latest == change:
            yield sse.BEAT
            continue
        change, begun = latest, time.thread_time()
        rows = render_to_string("console/stories/rows.html", _values(filters, None))
        yield sse.event(rows, "rows") if rows != last else sse.BEAT
        last = rows
        if console.ended.wait(min(MOST_SECONDS, max(LEAST_SECONDS, (time.thread_time() - begun) / SHARE))):
            return


def _values(filters: Filters, before: int | None) -> dict[str, Any]:
    stories = system.current().stories
    found = stories.newest(SHOWN, filters.wanted(stories), before)
    return {
        "filters": filters,
        "rows": [row(story) for story in found],
        "oldest": found[-1].number if len(found) == SHOWN else None,
    }


COLOURS = {"ok": "good", "rejected": "warn", "retried": "warn", "failed": "bad", "dead-lettered": "bad"}


def row(story: Summary) -> dict[str, Any]:
    """What a row of the list shows."""
    return {
        "story": story,
        "at": moment(story.begun),
        "took": duration_text(story.duration) if story.duration else "",
        "whole": duration_text(story.whole),
        "colour": COLOURS[story.state],
    }


def moment(nanoseconds: int) -> datetime:
    """A time since the epoch."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
