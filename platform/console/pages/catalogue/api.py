"""The API of the system in Swagger UI, from the files of drf-spectacular's sidecar and the gateway's document."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console import system
from console.failures import Away
from console.sources.http import Client, NoAnswer

POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; object-src 'none'"
)
"""Swagger UI needs inline styles, and images in data URLs."""
SECONDS = 5.0


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    response = render(request, "console/catalogue/api.html", {"gateway": _url()})
    response["Content-Security-Policy"] = POLICY
    return response


@require_safe
def document(request: HttpRequest) -> HttpResponse:
    """The merged OpenAPI document of the gateway: a page of the console may not read it from there. Raises Away."""
    try:
        answer = Client(_url(), timeout=SECONDS).request("GET", "/api/schema")
    except NoAnswer as error:
        raise Away("The gateway", str(error)) from None
    if answer.status != 200:
        raise Away("The gateway", f"responded {answer.status}")
    return HttpResponse(answer.body, content_type="application/json")


def _url() -> str:
    return next((one.url for one in system.current().processes.all if one.kind == "gateway"), "")
