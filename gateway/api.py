"""The gateway's own pages: the merged documents, Swagger UI, and an index of what there is."""

from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularSwaggerSplitView

from chassis.http.negotiation import prefers_html
from gateway import asyncapi, openapi, routes

PAGES = {
    "/api/docs": "the API, to read and to try out",
    "/api/schema": "the same as an OpenAPI document",
    "/api/asyncapi": "the events, as an AsyncAPI document",
    **{route.path.decode(): f"the API of {route.service}, to be browsed" for route in routes.ROUTES},
    "/health/live": "whether the gateway lives",
    "/health/ready": "whether it can serve, and which services are down",
    "/metrics": "in Prometheus' format",
}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """What there is; a page for people, JSON for programs."""
    if prefers_html(request.headers.get("Accept")):
        return render(request, "gateway/index.html", {"pages": PAGES})
    return _json({"pages": PAGES})


@require_safe
async def schema(request: HttpRequest) -> HttpResponse:
    """The merged OpenAPI document."""
    return _json(await openapi.document())


@require_safe
async def events(request: HttpRequest) -> HttpResponse:
    """The merged AsyncAPI document."""
    return _json(await asyncapi.document())


class Docs(SpectacularSwaggerSplitView):
    """Swagger UI, from local files; its script is one too, as the pages' policy wants it."""

    url = "/api/schema"
    url_self = "/api/docs"
    title = "API"


docs = require_safe(Docs.as_view())


def _json(content: dict[str, Any]) -> HttpResponse:
    return HttpResponse(orjson.dumps(content), content_type="application/json")
