"""Finding a story by the id of an order, a user, a request, an event, a dead letter or a trace."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from chassis.story.facts import SANE
from console import system
from console.pages.stories import facts
from console.pages.stories.listing import row
from console.stores.model import Summary

MOST = 50


@require_safe
def find(request: HttpRequest) -> HttpResponse:
    """The only story with an id, or all that have it; else what the services know about it."""
    given = request.GET.get("id", "").strip()
    if not given:
        return HttpResponseRedirect(reverse("stories:index"))
    if not SANE.fullmatch(given):
        values: dict[str, Any] = {"given": given[:128], "untold": "An id is 1 to 128 letters, digits or ._:-"}
        return render(request, "console/stories/found.html", values, status=400)
    found = _known(given)
    told = {} if found else facts.told(given)
    if (story := told.get("told")) is not None:
        found = [summary for one in (*story.trace_ids, *story.request_ids) if (summary := _summary(one))]
        found = list({summary.trace_id: summary for summary in found}.values())
    if len(found) == 1:
        return HttpResponseRedirect(reverse("stories:story", args=[found[0].trace_id]))
    values = {"given": given, "rows": [row(summary) for summary in found[:MOST]], **told}
    return render(request, "console/stories/found.html", values)


def _known(given: str) -> list[Summary]:
    """The stories in memory: the one with this trace or request id, or those in which it is one of the ids."""
    if (story := _summary(given)) is not None:
        return [story]
    return system.current().stories.newest(MOST, lambda one: given in one.ids.split())


def _summary(one: str) -> Summary | None:
    return system.current().stories.summary(one)
