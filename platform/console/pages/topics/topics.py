"""The list of topics, and the message browser of each."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from chassis.kafka import names
from console import htmx, system
from console.failures import NotFound
from console.pages.topics.filters import OLDEST, Filters
from console.pages.topics.rows import moment, row
from console.sources.cluster import Overview
from console.sources.kafka import Topic
from console.sources.walk import Walked

SHOWN = 50


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """All topics, dead-letter topics apart."""
    overview = system.current().cluster.overview()
    topics = [_described(overview, topic) for topic in overview.topics.values() if not topic.is_dead_letter_topic]
    dead = [_described(overview, topic) for topic in overview.topics.values() if topic.is_dead_letter_topic]
    name = "console/topics/list.html" if htmx.wants_part(request) else "console/topics/index.html"
    return render(request, name, {"overview": overview, "topics": topics, "dead": dead})


def _described(overview: Overview, topic: Topic) -> dict[str, Any]:
    known = [one for one in topic.partitions if one.end >= 0]
    source, group = names.dead_lettered(topic.name) if topic.is_dead_letter_topic else ("", "")
    return {
        "topic": topic,
        "low": min((one.begin for one in known), default=None),
        "high": max((one.end for one in known), default=None),
        "rate": overview.rates.get(topic.name),
        "unknown": len(topic.partitions) - len(known),
        "source": source,
        "group": group,
        "readers": [
            {"name": group.name, "lag": sum(one.lag for one in group.positions if one.topic == topic.name)}
            for group in overview.readers.get(topic.name, ())
        ],
    }


@require_safe
def browse(request: HttpRequest, name: str) -> HttpResponse:
    """The records of a topic that match the filters, from its end, in pages."""
    form = Filters(request.GET)
    context = {"name": name, "form": form}
    if not form.is_valid():
        _known(name)
        return _page(request, {**context, "walked": None}, status=400)
    walked = system.current().topics.walk(
        name,
        form.path(row, SHOWN),
        form.cleaned_data["partition"],
        form.milliseconds("since"),
        form.milliseconds("until"),
    )
    more = request.GET.copy()
    more["at"] = ",".join(f"{number}:{offset}" for number, offset in walked.at.items())
    return _page(request, {**context, "walked": walked, "looked": _looked(form, walked), "more": more.urlencode()})


def _page(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    if htmx.target(request) == "records":
        return render(request, "console/topics/records.html", context, status=status)
    if htmx.wants_part(request):
        return render(request, "console/topics/rows.html", {**context, "is_more": True}, status=status)
    name = context["name"]
    overview = system.current().cluster.overview()
    topic = overview.topics.get(name) or system.current().topics.topic(name)
    described = _described(overview, topic)
    values = {**context, "overview": overview, "described": described}
    return render(request, "console/topics/browse.html", values, status=status)


def _known(name: str) -> None:
    if name not in system.current().cluster.overview().topics:
        raise NotFound(f"There is no topic {name[:249]!r}.")


def _looked(form: Filters, walked: Walked) -> dict[str, Any]:
    """How far the search has looked."""
    return {
        "reached": moment(walked.reached_ms),
        "megabytes": walked.size / 1_000_000,
        "forward": form.cleaned_data["order"] == OLDEST,
        "searches": form.searches,
    }
