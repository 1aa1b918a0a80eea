"""The gateway's own pages: the merged documents, Swagger UI, and an index of what there is."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import orjson
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularSwaggerSplitView

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


View = Callable[..., HttpResponseBase]


def may_load(**sources: str) -> Callable[[View], View]:
    """What the page of this view may load, and nothing else: `style="'self'"` allows its own style sheets."""
    directives = [f"{name}-src {allowed}" for name, allowed in sources.items()]
    policy = "; ".join(
        ["default-src 'none'", *directives, "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"]
    )

    def decorate(view: View) -> View:
        @wraps(view)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            response = view(request, *args, **kwargs)
            response.headers.setdefault("Content-Security-Policy", policy)
            return response

        return answer

    return decorate


@require_safe
@may_load(style="'unsafe-inline'")
def index(request: HttpRequest) -> HttpResponse:
    """What there is; a page for people, JSON for programs."""
    if request.accepts("text/html") and "text/html" in request.headers.get("Accept", ""):
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


class Swagger(SpectacularSwaggerSplitView):
    """Swagger UI, from local files."""

    url = "/api/schema"
    url_self = "/api/docs"
    title = "API"


docs = require_safe(
    may_load(script="'self'", style="'self' 'unsafe-inline'", img="'self' data:", connect="'self'")(
        cast(View, Swagger.as_view())
    )
)


def _json(content: dict[str, Any]) -> HttpResponse:
    return HttpResponse(orjson.dumps(content), content_type="application/json")
