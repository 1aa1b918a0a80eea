"""Cross-site requests: a browser's writes on behalf of other sites are rejected, unless CORS_ALLOWED_ORIGINS lists the origin.

The API has no authentication, so any client that can connect to it can write. Without this check, any page on the internet
could write through the browser of a user inside the network, with a form, which needs no CORS preflight.
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

ALLOWED_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
ALLOWED_HEADERS = (
    "Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, X-Request-Id,"
    " traceparent, tracestate"
)
EXPOSED_HEADERS = "ETag, Idempotency-Replayed, Last-Modified, Location, Retry-After, X-Request-Id"
PREFLIGHT_SECONDS = 600


class CrossSiteMiddleware:
    """Rejects writes of other sites' pages, and tells browsers what pages of listed origins may read.

    Browsers send the origin of a request in Sec-Fetch-Site, which pages cannot set, or else in Origin. A request with neither
    is not a browser's. Safe methods change nothing, and browsers do not show their responses to other sites' pages.
    """

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        origin = request.headers.get("Origin")
        listed = origin is not None and origin.lower() in settings.CORS_ALLOWED_ORIGINS
        if listed and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response: HttpResponseBase = _preflight()
        elif not listed and request.method not in SAFE and _is_cross_site(request, origin):
            return problem_response(HTTPStatus.FORBIDDEN, "Pages of other sites may not change anything here.")
        else:
            response = self.get_response(request)
        if settings.CORS_ALLOWED_ORIGINS:
            patch_vary_headers(response, ["Origin"])
        if listed:
            response.headers["Access-Control-Allow-Origin"] = str(origin)
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
        return response


def _is_cross_site(request: HttpRequest, origin: str | None) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        # `none` is a request that the user initiated; `same-site` is another host of this domain, which is not trusted.
        return site.strip().lower() not in {"same-origin", "none"}
    # Only the host is compared, since TLS may be terminated before this service. The gateway forwards the browser's host.
    return origin is not None and urlsplit(_parsable(origin)).netloc.lower() != request.get_host().lower()


def _parsable(origin: str) -> str:
    # The origin may be `null`, and `urlsplit` raises for values such as `http://[`.
    try:
        urlsplit(origin)
    except ValueError:
        return ""
    return origin


def _preflight() -> HttpResponse:
    response = HttpResponse(status=HTTPStatus.NO_CONTENT)
    response["Access-Control-Allow-Methods"] = ALLOWED_METHODS
    response["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
    response["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    return response


POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'"
)
"""For every page: scripts only from this host's files. Swagger UI and REST framework require inline styles."""


class ContentSecurityPolicyMiddleware:
    """Restricts pages to scripts from this host."""

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        response = self.get_response(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
