"""Other sites' pages: what a browser sends for them is refused, unless the site is named in CORS_ALLOWED_ORIGINS.

The API asks nobody who he is: whoever reaches it may write. Without this any page on the internet could write through the
browser of somebody inside, by a form, which needs no permission of ours (CORS-simple).
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from chassis.http.errors import problem_response

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
TAKEN = (
    "Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, X-Request-Id,"
    " traceparent, tracestate"
)
SHOWN = "ETag, Idempotency-Replayed, Last-Modified, Location, Retry-After, X-Request-Id"
PREFLIGHT_SECONDS = 600


class CrossSiteMiddleware:
    """Refuses what other sites' pages would change, and tells a browser what the named ones may read.

    A browser says where a request comes from: by Sec-Fetch-Site, which no page can write, or else by Origin. What says
    neither is no browser's. Safe methods change nothing, and their answers are not shown to other sites' pages.
    """

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        origin = request.headers.get("Origin")
        named = origin is not None and origin.lower() in settings.CORS_ALLOWED_ORIGINS
        if named and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response: HttpResponseBase = _preflight()
        elif not named and request.method not in SAFE and _is_from_elsewhere(request, origin):
            return problem_response(HTTPStatus.FORBIDDEN, "Pages of other sites may not change anything here.")
        else:
            response = self.get_response(request)
        if settings.CORS_ALLOWED_ORIGINS:
            patch_vary_headers(response, ["Origin"])
        if named:
            response.headers["Access-Control-Allow-Origin"] = str(origin)
            response.headers["Access-Control-Expose-Headers"] = SHOWN
        return response


def _is_from_elsewhere(request: HttpRequest, origin: str | None) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        # `none` is a person's own doing; `same-site` is another host of this domain, which is not ours to trust.
        return site.strip().lower() not in {"same-origin", "none"}
    # The host alone: TLS may end in front of us. Behind the gateway it is the one that the browser asked for.
    return origin is not None and urlsplit(_sane(origin)).netloc.lower() != request.get_host().lower()


def _sane(origin: str) -> str:
    # `null` is the origin of what has none; and `urlsplit` raises for `http://[`.
    try:
        urlsplit(origin)
    except ValueError:
        return ""
    return origin


def _preflight() -> HttpResponse:
    response = HttpResponse(status=HTTPStatus.NO_CONTENT)
    response["Access-Control-Allow-Methods"] = METHODS
    response["Access-Control-Allow-Headers"] = TAKEN
    response["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    return response


POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'"
)
"""For every page: scripts are files of ours. Styles may stand in a page, as Swagger UI and REST framework write them so."""


class ContentSecurityPolicyMiddleware:
    """Tells browsers to run nothing on our pages but our own files."""

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        response = self.get_response(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
