"""Requests that Django would not get as far as its middleware: they are made all the same, and refused with a problem.

Django reads the Content-Type while it makes the request, before any middleware: one that cannot be decoded (an RFC 2231
parameter in an unknown character set, say) would be a bare 500 without a request id.
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
"""JSON is UTF-8 (RFC 8259), and so are our pages' forms."""


class Refusal(NamedTuple):
    """What a request is answered in place of its page."""

    status: int
    detail: str


class _Strict(HttpRequest):
    """A request whose Content-Type may be anything; `refusal` says what is wrong with the request as a whole."""

    refusal: Refusal | None = None

    @property
    def body(self) -> bytes:
        """The whole body. Raises UnreadablePostError for one that is shorter than its Content-Length: a part may look whole."""
        body = super().body
        announced = self.META.get("CONTENT_LENGTH") or "0"
        if announced.isdigit() and len(body) < int(announced):
            raise UnreadablePostError("the body breaks off")
        return body

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except Exception:  # noqa: BLE001
            # Of whatever kind: it comes out of the standard library's mail parser and its codecs.
            self.content_type, self.content_params = "", {}
            self.refusal = Refusal(HTTPStatus.BAD_REQUEST, "The Content-Type cannot be read.")
        else:
            # Its charset is not taken over, as Django does: a query is in UTF-8 whatever the body's type claims.
            self.refusal = _about_body(meta, self.content_params)


class WSGIRequest(_Strict, wsgi.WSGIRequest):
    """Under WSGI."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        self.refusal = _about_host(self.META, environ.get("SERVER_PROTOCOL") == "HTTP/1.1") or self.refusal


class ASGIRequest(_Strict, asgi.ASGIRequest):
    """Under ASGI."""

    def __init__(self, scope: Any, body_file: Any) -> None:
        super().__init__(scope, body_file)
        self.refusal = _about_host(self.META, scope.get("http_version") == "1.1") or self.refusal


class WSGIHandler(wsgi.WSGIHandler):
    """Django's, with our requests."""

    request_class = WSGIRequest


class ASGIHandler(asgi.ASGIHandler):
    """Django's, with our requests."""

    request_class = ASGIRequest


class RefusalMiddleware:
    """Answers what the request itself is refused for."""

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        refusal: Refusal | None = getattr(request, "refusal", None)
        if refusal is None:
            return self.get_response(request)
        response = problem_response(*refusal)
        if refusal == _ENCODED:
            response["Accept-Encoding"] = "identity"  # RFC 9110, 15.5.16
        return response


_NO_HOST = Refusal(HTTPStatus.BAD_REQUEST, "HTTP/1.1 needs a Host.")
_NO_PORT = Refusal(HTTPStatus.BAD_REQUEST, "The Host's port is none.")
_CODED = Refusal(HTTPStatus.NOT_IMPLEMENTED, "The only transfer coding that is taken is chunked.")  # RFC 9112, 6.1
_ENCODED = Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body without a Content-Encoding.")


_PORT = re.compile(r":0*([0-9]+)\Z")


def _about_host(meta: dict[str, Any], is_needed: bool) -> Refusal | None:
    host = meta.get("HTTP_HOST", "")
    if is_needed and not host:
        return _NO_HOST
    port = _PORT.search(host)
    # It would stand in every link. Its length first: an integer may have so many digits only.
    return _NO_PORT if port and (len(port[1]) > 5 or int(port[1]) > 65535) else None


def _about_body(meta: dict[str, Any], parameters: dict[str, str]) -> Refusal | None:
    if meta.get("HTTP_TRANSFER_ENCODING", "").strip().lower() not in {"", "chunked"}:
        return _CODED
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
