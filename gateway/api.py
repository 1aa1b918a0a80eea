"""The gateway's own pages: the merged documents, Swagger UI, and the start page."""

from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularSwaggerSplitView

from chassis.http.negotiation import prefers_html
from gateway import asyncapi, openapi, routes

API = {
    "/api/docs": "API documentation with Swagger UI",
    **{route.path.decode(): f"the browsable API of {route.service}" for route in routes.ROUTES},
    "/api/schema": "the API as an OpenAPI document",
    "/api/asyncapi": "the events as an AsyncAPI document",
}
HEALTH = {
    "/health/live": "liveness of the gateway",
    "/health/ready": "readiness of the gateway and of each service",
    "/metrics": "metrics in the format of Prometheus",
}


def pages() -> dict[str, dict[str, str]]:
    """The paths that are served on this port, with their meaning, by group."""
    health = {
        path: text for path, text in HEALTH.items() if path == "/health/live" or not settings.GATEWAY_INTERNAL_PORT
    }
    return {"API": API, "Health": health}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The start page, as HTML for browsers and as JSON for programs."""
    groups = pages()
    if prefers_html(request.headers.get("Accept")):
        console = settings.GATEWAY_CONSOLE_URL if settings.ENVIRONMENT == "development" else ""
        return render(request, "gateway/index.html", {"groups": groups, "console": console})
    return _json({"pages": {path: text for group in groups.values() for path, text in group.items()}})


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
