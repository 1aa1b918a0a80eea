"""The page of a story, and the parts of it that are fetched when they are looked at."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from console.failures import NotFound
from console.pages.stories import facts
from console.pages.stories.gathering import Gathered, gather, summary_of
from console.pages.stories.listing import COLOURS, moment
from console.sequence import svg
from console.sequence.folding import Tree, fold
from console.sequence.model import duration_text
from console.stores.model import Line, Span

LINES_SHOWN = 200
"""So many log lines are in the page; the others are fetched on request."""
MOST_LINES = 5_000
MOST_STEPS = 2_000
FOLDED_SHOWN = 500


@require_safe
def page(request: HttpRequest, any_id: str) -> HttpResponse:
    """A story."""
    story = gather(any_id)
    opened = request.GET.getlist("open")
    drawn = story.diagram(opened)
    address = reverse("stories:story", args=[story.summary.trace_id])
    selected = request.GET.get("span", "")
    chosen = next((one for one in story.spans if one.span_id == selected), None)
    values = {
        **_head(story),
        "diagram": drawn,
        "heading": svg.heading(drawn),
        "body": svg.body(drawn, address, opened, selected),
        "opened": opened,
        "can_fold": "all" not in opened,
        "chosen": _details(story, chosen) if chosen else None,
        **_lines(story, LINES_SHOWN),
        "linked": [
            {
                "trace_id": trace_id,
                "name": known.name if known else "no longer in memory",
                "is_known": known is not None,
            }
            for trace_id, known in story.linked
        ],
    }
    return render(request, "console/stories/story.html", values)


@require_safe
def span(request: HttpRequest, any_id: str, span_id: str) -> HttpResponse:
    """The details of a span."""
    story = gather(any_id)
    found = next((one for one in story.spans if one.span_id == span_id), None)
    if found is None:
        raise NotFound(f"This story has no span {span_id[:40]!r} in memory.")
    return render(request, "console/stories/span.html", {"span": _details(story, found), "story": story.summary})


@require_safe
def folded(request: HttpRequest, any_id: str, span_id: str) -> HttpResponse:
    """The spans that one row of the diagram stands for."""
    story = gather(any_id)
    _, folds = fold(Tree(story.spans), request.GET.getlist("open"))
    found = next((one for one in folds if one.id == span_id), None)
    if found is None:
        raise NotFound(f"This story has no folded spans {span_id[:40]!r}.")
    begun = story.diagram_begun
    values = {
        "story": story.summary,
        "fold": found,
        "total": duration_text(found.total),
        "spans": [
            {"span": one, "since": duration_text(one.begun - begun), "took": duration_text(one.ended - one.begun)}
            for one in found.spans[:FOLDED_SHOWN]
        ],
        "left": max(0, found.count - FOLDED_SHOWN),
    }
    return render(request, "console/stories/fold.html", values)


@require_safe
def steps(request: HttpRequest, any_id: str) -> HttpResponse:
    """The rows of the diagram as a table."""
    story = gather(any_id)
    drawn = story.diagram(request.GET.getlist("open"))
    rows = [
        {"step": one, "since": duration_text(one.at - drawn.begun), "where": _where(one)}
        for one in drawn.steps[:MOST_STEPS]
    ]
    return render(request, "console/stories/steps.html", {"rows": rows, "left": len(drawn.steps) - len(rows)})


@require_safe
def lines(request: HttpRequest, any_id: str) -> HttpResponse:
    """All log lines."""
    return render(
        request, "console/stories/lines.html", {**_lines(gather(any_id), MOST_LINES), "story": summary_of(any_id)}
    )


@require_safe
def state(request: HttpRequest, any_id: str) -> HttpResponse:
    """Where the story stands, as the services know from their databases and topics."""
    summary = summary_of(any_id)
    return render(
        request, "console/stories/state.html", {"story": summary, **facts.told(summary.request_id or summary.trace_id)}
    )


def _head(story: Gathered) -> dict[str, Any]:
    summary = story.summary
    return {
        "story": summary,
        "colour": COLOURS[summary.state],
        "at": moment(summary.begun),
        "took": duration_text(summary.duration),
        "whole": duration_text(summary.whole),
        "batches": len(story.batches),
    }


def _lines(story: Gathered, most: int) -> dict[str, Any]:
    rows = [_line(one, story.summary.begun / 1e9) for one in story.lines[:most]]
    return {"lines": rows, "lines_left": len(story.lines) - len(rows)}


HEAD_FIELDS = frozenset(
    {"event", "logger", "level", "timestamp", "request_id", "trace_id", "span_id", "service", "exception"}
)


def _line(line: Line, begun: float) -> dict[str, Any]:
    fields = line.fields
    raised = fields.get("exception")
    return {
        "since": duration_text(max(0.0, line.at - begun) * 1e9),
        "process": line.process,
        "level": line.level,
        "colour": {"warning": "warn", "error": "bad", "critical": "bad"}.get(line.level, ""),
        "event": fields.get("event") or line.text,
        "fields": [(name, value) for name, value in fields.items() if name not in HEAD_FIELDS],
        "exception": raised
        if isinstance(raised, str)
        else json.dumps(raised, indent=2, ensure_ascii=False)
        if raised
        else "",
    }


def _details(story: Gathered, one: Span) -> dict[str, Any]:
    """What is shown of a span."""
    tree = Tree(story.spans)
    parent = tree.by_id.get(one.parent_id)
    return {
        "span": one,
        "since": duration_text(one.begun - story.diagram_begun),
        "took": duration_text(one.ended - one.begun),
        "parent": parent,
        "children": tree.children(one.span_id)[:50],
        "statement": str(one.attributes.get("db.query.text") or ""),
        "attributes": [(name, value) for name, value in sorted(one.attributes.items()) if name != "db.query.text"],
        "happenings": [
            {
                "name": happening.name,
                "since": duration_text(max(0, happening.at - story.diagram_begun)),
                "stack": str(happening.attributes.get("exception.stacktrace") or ""),
                "attributes": [
                    pair for pair in sorted(happening.attributes.items()) if pair[0] != "exception.stacktrace"
                ],
            }
            for happening in one.happenings
        ],
        "links": [
            {"link": link, "span": tree.by_id.get(link.span_id), "is_here": link.span_id in tree.by_id}
            for link in one.links
        ],
    }


def _where(step: Any) -> str:
    return step.source.title if step.source == step.target else f"{step.source.title} → {step.target.title}"
