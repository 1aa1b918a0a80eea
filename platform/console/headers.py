"""The security headers of all responses, and the pages that say what is wrong."""

from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.shortcuts import render

from console import htmx
from console.failures import Away, NotFound
from console.sources.staff import Refused

POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
"""Scripts and styles only from the console's own files. A view that embeds something else sets its own policy."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class HeadersMiddleware:
    """Adds the security headers. Pages are not cached: they show the present state, and need the token."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class FailureMiddleware:
    """Turns `Away`, `NotFound` and `Refused` of a view into a page, or into a fragment if htmx asked for one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        response = self.get_response(request)
        if not isinstance(response, HttpResponseNotAllowed) or response.content:
            return response
        # Django's own response would be a blank page.
        page = failure(
            request, HTTPStatus.METHOD_NOT_ALLOWED, "Not possible", f"{request.method} is not possible here."
        )
        page["Allow"] = response["Allow"]
        return page

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The response to a failure that the view did not handle; None for one that is a defect."""
        if isinstance(error, Away):
            title = f"{error.source} cannot be reached"
            return failure(request, HTTPStatus.SERVICE_UNAVAILABLE, title, error.reason)
        if isinstance(error, NotFound):
            return failure(request, HTTPStatus.NOT_FOUND, "Not found", str(error))
        if isinstance(error, Refused):
            known = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE}
            status = HTTPStatus(error.status) if error.status in known else HTTPStatus.BAD_GATEWAY
            return failure(request, status, f"{error.service} has refused this", str(error))
        return None


def failure(request: HttpRequest, status: HTTPStatus, title: str, detail: str) -> HttpResponse:
    """A page with a message, a fragment of it for htmx, or JSON if that was asked for."""
    if request.path_info.endswith(".json"):
        import json

        body = json.dumps({"title": title, "status": status, "detail": detail})
        return HttpResponse(body, status=status, content_type="application/problem+json")
    name = "console/failure_fragment.html" if htmx.wants_part(request) else "console/failure.html"
    return render(request, name, {"title": title, "detail": detail}, status=status)
