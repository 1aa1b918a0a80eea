"""Who may use the console: a browser or a process that has its token, and no page of another site in the same browser.

The console listens on 127.0.0.1 only, which any page in the browser can send requests to. Therefore:

- The host must be the console's own, so that a name that resolves to 127.0.0.1 is of no use (DNS rebinding).
- Every request needs the token: once as `?token=`, which is exchanged for a cookie, or as `Authorization: Bearer`.
- A cookie is sent to every port of a host, and by pages of every port of it. So a request that a page of another origin
  causes is rejected, even with the cookie; only a link to a page may be followed.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render

SAFE = frozenset({"GET", "HEAD"})
OPEN = ("/health/live", "/health/ready")
"""Paths for which no token is required: they say nothing but that the console is running."""
STATIC = "/static/"
SPANS = "/v1/traces"
"""Where processes send spans, with the token in a header; a browser has no business there."""


class AccessMiddleware:
    """Rejects requests without the token, of other hosts, and of other sites' pages."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        return _problem(request) or self.get_response(request)


def _problem(request: HttpRequest) -> HttpResponse | None:
    """The response to a request that is not let through; None for one that is."""
    if request.META.get("HTTP_HOST", "").lower() not in hosts():
        return _refuse(request, HTTPStatus.FORBIDDEN, f"The console is only served as http://{address()}/.")
    if not _is_ours(request):
        return _refuse(request, HTTPStatus.FORBIDDEN, "Pages of other sites may not use the console.")
    if request.path_info in OPEN or request.path_info.startswith(STATIC):
        return None
    return _problem_of_spans(request) if request.path_info == SPANS else _problem_of_token(request)


def _problem_of_token(request: HttpRequest) -> HttpResponse | None:
    if "token" in request.GET and request.method in SAFE:
        return _exchange(request)
    if _has_header(request) or _has_cookie(request):
        return None
    detail = "Open the address that the console, or `make up`, has printed: it contains the token."
    return _refuse(request, HTTPStatus.UNAUTHORIZED, detail)


def _problem_of_spans(request: HttpRequest) -> HttpResponse | None:
    is_browser = "Sec-Fetch-Site" in request.headers or "Origin" in request.headers
    if _has_header(request) and not is_browser:
        return None
    return _refuse(request, HTTPStatus.UNAUTHORIZED, "Spans are accepted from processes with the console's token only.")


def address() -> str:
    """Host and port of the console."""
    return f"127.0.0.1:{settings.CONSOLE_PORT}"


def url() -> str:
    """The address to open in a browser, with the token."""
    return f"http://{address()}/?{urlencode({'token': token()})}"


def hosts() -> tuple[str, ...]:
    """The values of Host that are accepted."""
    return (address(), f"localhost:{settings.CONSOLE_PORT}")


def cookie_name() -> str:
    """The name of the cookie; it contains the port, since all ports of a host share their cookies."""
    return f"console_{settings.CONSOLE_PORT}"


def cookie_value() -> str:
    """The value of the cookie: derived from the token, since other servers on this machine receive it too."""
    return hmac.new(token().encode(), b"console cookie", hashlib.sha256).hexdigest()


@cache
def token() -> str:
    """The token: CONSOLE_TOKEN, or else a random one of this start."""
    return str(settings.CONSOLE_TOKEN.get_secret_value()) or secrets.token_urlsafe(24)


def _is_ours(request: HttpRequest) -> bool:
    """Whether the request comes from one of the console's own pages, the address bar, a link, or no browser at all."""
    site = request.headers.get("Sec-Fetch-Site", "").strip().lower()
    if request.method not in SAFE:
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{request.META['HTTP_HOST'].lower()}":
            return False
        # A browser names the origin of every write. What names none is a program, which sends the token in a header.
        return site == "same-origin" or (site == "" and (origin is not None or _has_header(request)))
    if site in {"", "same-origin", "none"}:
        return True
    return request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"


def _has_header(request: HttpRequest) -> bool:
    kind, _, offered = request.headers.get("Authorization", "").partition(" ")
    return kind.lower() == "bearer" and _is_same(offered.strip(), token())


def _has_cookie(request: HttpRequest) -> bool:
    return _is_same(request.COOKIES.get(cookie_name(), ""), cookie_value())


def _is_same(offered: str, expected: str) -> bool:
    return hmac.compare_digest(offered.encode("utf-8", "replace"), expected.encode())


def _exchange(request: HttpRequest) -> HttpResponse:
    """Exchange a token in the address for a cookie, so that it does not stay in the browser's history."""
    if not _is_same(request.GET["token"], token()):
        detail = "This is not the token of this console. Open the address that the console, or `make up`, has printed."
        return _refuse(request, HTTPStatus.UNAUTHORIZED, detail)
    rest = request.GET.copy()
    del rest["token"]
    path = "/" + request.path.lstrip("/")  # `//host` would be another site
    response = HttpResponseRedirect(f"{path}?{rest.urlencode()}" if rest else path)
    response.set_cookie(cookie_name(), cookie_value(), httponly=True, samesite="Strict", path="/")
    return response


def _refuse(request: HttpRequest, status: HTTPStatus, detail: str) -> HttpResponse:
    if request.path_info == SPANS:
        response = HttpResponse(detail, status=status, content_type="text/plain; charset=utf-8")
    else:
        response = render(request, "console/refused.html", {"title": status.phrase, "detail": detail}, status=status)
    if status == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = 'Bearer realm="console"'
    return response
