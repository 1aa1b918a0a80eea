"""Requests that Django cannot construct are constructed anyway, and rejected with a problem document.

Django parses the Content-Type while it constructs the request, before any middleware runs. One that cannot be decoded, such as
an RFC 2231 parameter in an unknown character set, would result in a bare 500 without a request id.
"""

import codecs
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

from django.core.handlers import asgi, wsgi
from django.http import HttpRequest, UnreadablePostError
from django.http.response import HttpResponseBase
from django.utils.http import parse_header_parameters

from chassis.http.errors import problem_response

CHARSETS = frozenset({"utf-8", "ascii"})
"""JSON is UTF-8 (RFC 8259), and so are the forms of the pages."""


class Refusal(NamedTuple):
    """The response to a request that is rejected before its view."""

    status: int
    detail: str


class _CheckedRequest(HttpRequest):
    """A request with any Content-Type; `refusal` is set if the request must be rejected."""

    refusal: Refusal | None = None

    @property
    def body(self) -> bytes:
        """The body. Raises UnreadablePostError if it is shorter than its Content-Length, since it may look complete."""
        body = super().body
        expected = self.META.get("CONTENT_LENGTH") or "0"
        if expected.isdigit() and len(body) < int(expected):
            raise UnreadablePostError("the body is incomplete")
        return body

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except Exception:  # noqa: BLE001
            # The standard library's mail parser and codecs may raise anything.
            self.content_type, self.content_params = "", {}
            self.refusal = Refusal(HTTPStatus.BAD_REQUEST, "The Content-Type is malformed.")
        else:
            # Unlike Django, this does not apply its charset to the query, which is always in UTF-8.
            self.refusal = _check_body(meta, self.content_params)


class WSGIRequest(_CheckedRequest, wsgi.WSGIRequest):
    """A request under WSGI."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        self.refusal = _check_host(self.META, environ.get("SERVER_PROTOCOL") == "HTTP/1.1") or self.refusal


class ASGIRequest(_CheckedRequest, asgi.ASGIRequest):
    """A request under ASGI."""

    def __init__(self, scope: Any, body_file: Any) -> None:
        super().__init__(scope, body_file)
        self.refusal = _check_host(self.META, scope.get("http_version") == "1.1") or self.refusal


class WSGIHandler(wsgi.WSGIHandler):
    """Django's handler, with the request class above."""

    request_class = WSGIRequest


class ASGIHandler(asgi.ASGIHandler):
    """Django's handler, with the request class above."""

    request_class = ASGIRequest


class RefusalMiddleware:
    """Rejects requests that have a `refusal`."""

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        refusal: Refusal | None = getattr(request, "refusal", None)
        if refusal is None:
            return self.get_response(request)
        response = problem_response(*refusal)
        if refusal == _ENCODED:
            response["Accept-Encoding"] = "identity"  # RFC 9110, 15.5.16
        return response


_NO_HOST = Refusal(HTTPStatus.BAD_REQUEST, "HTTP/1.1 requires a Host header.")
_BAD_PORT = Refusal(HTTPStatus.BAD_REQUEST, "The port in the Host header is invalid.")
_TRANSFER_CODING = Refusal(
    HTTPStatus.NOT_IMPLEMENTED, "The only supported transfer coding is chunked."
)  # RFC 9112, 6.1
_ENCODED = Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body without a Content-Encoding.")


_PORT = re.compile(r":0*([0-9]+)\Z")


def _check_host(meta: dict[str, Any], is_needed: bool) -> Refusal | None:
    host = meta.get("HTTP_HOST", "")
    if is_needed and not host:
        return _NO_HOST
    port = _PORT.search(host)
    # An invalid port would be part of every link. The length is checked first, since int() limits the number of digits.
    return _BAD_PORT if port and (len(port[1]) > 5 or int(port[1]) > 65535) else None


def _check_body(meta: dict[str, Any], parameters: dict[str, str]) -> Refusal | None:
    if meta.get("HTTP_TRANSFER_ENCODING", "").strip().lower() not in {"", "chunked"}:
        return _TRANSFER_CODING
    if meta.get("CONTENT_LENGTH") in {None, "", "0"}:
        return None
    if meta.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in {"", "identity"}:
        return _ENCODED
    charset = parameters.get("charset")
    if charset is not None and _name(charset) not in CHARSETS:
        return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be in UTF-8.")
    return None


def _name(charset: str) -> str | None:
    try:
        return codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None
