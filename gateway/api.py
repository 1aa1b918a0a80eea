"""The gateway's own pages: the merged documents, Swagger UI, and an index."""

from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularSwaggerSplitView

from chassis.http.negotiation import prefers_html
from gateway import asyncapi, openapi, routes

PAGES = {
    "/api/docs": "API documentation with Swagger UI",
    "/api/schema": "the API as an OpenAPI document",
    "/api/asyncapi": "the events as an AsyncAPI document",
    **{route.path.decode(): f"the browsable API of {route.service}" for route in routes.ROUTES},
    "/health/live": "liveness of the gateway",
    "/health/ready": "readiness of the gateway and of each service",
    "/metrics": "metrics in the format of Prometheus",
}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The index, as HTML for browsers and as JSON for programs."""
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
    """Swagger UI from local files, including its script, as the content security policy requires."""

    url = "/api/schema"
    url_self = "/api/docs"
    title = "API"
    http_method_names = ("get", "head")  # for Allow: OPTIONS is a 405 on every page of the gateway


docs = require_safe(Docs.as_view())


def _json(content: dict[str, Any]) -> HttpResponse:
    return HttpResponse(orjson.dumps(content), content_type="application/json")
