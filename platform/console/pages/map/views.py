"""The pages of the map."""

from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from console import sse
from console.pages.map import feed
from console.pages.map.figures import NodeFigures
from console.pages.map.layout import HEIGHT, WIDTH
from console.pages.map.topology import Node


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "console/map/index.html", context())


@require_safe
def drawing(request: HttpRequest) -> HttpResponse:
    """The drawing and its table alone, for a page whose services have changed."""
    return render(request, "console/map/drawing.html", context())


@require_safe
def stream(request: HttpRequest) -> HttpResponseBase:
    """The figures, once a second, as server-sent events."""
    return sse.stream(feed.events())


def context() -> dict[str, Any]:
    """What the drawing needs; also for other pages that show it."""
    source = feed.current()
    source.watch()
    frame = source.frame()
    drawn = source.layout(frame.topology)
    figures = frame.figures
    return {
        "frame": frame,
        "layout": drawn,
        "node_width": WIDTH,
        "node_height": HEIGHT,
        "edges": [{"path": path, "figures": figures.edges[path.edge.id]} for path in drawn.paths],
        "nodes": [
            {
                "place": place,
                "node": place.node,
                "figures": figures.nodes[place.node.id],
                "what": feed.heading(place.node),
                "href": _href(place.node),
                "label": _label(place.node, figures.nodes[place.node.id]),
            }
            for place in drawn.places
        ],
    }


def _label(node: Node, figures: NodeFigures) -> str:
    """The accessible name of a node: what it shows, then what it is, and its state."""
    shown = " ".join(filter(None, [node.label, figures.line, figures.note]))
    return f"{shown}, {feed.heading(node)}, {figures.state.word or figures.state.level}"


def _href(node: Node) -> str:
    """The page about a node."""
    if node.kind == "topic":
        return f"{reverse('topics:index')}/{quote(node.id.removeprefix('topic:'), safe='')}"
    return f"{reverse('catalogue:index')}#service-{node.service}"
