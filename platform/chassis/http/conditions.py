"""Conditional requests, by RFC 9110, 13: validators on what is read, preconditions on what is written.

The ETag is strong: a hash of the JSON representation, byte for byte. A write looks at its precondition inside the
transaction of the use case, with the row locked, so of two that saw the same version one is a 412.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.utils.http import http_date, parse_http_date_safe
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from chassis import json
from chassis.http.errors import exception_handler

SAFE = frozenset({"GET", "HEAD"})

MATCH, NONE_MATCH = "If-Match", "If-None-Match"
MODIFIED, UNMODIFIED = "If-Modified-Since", "If-Unmodified-Since"

_ETAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')


class PreconditionFailed(exceptions.APIException):
    """What the client has seen is not what there is."""

    status_code = HTTPStatus.PRECONDITION_FAILED
    default_detail = "It has changed, or is not as the precondition says: read it again."
    default_code = "precondition_failed"


@dataclass(frozen=True, slots=True)
class Validators:
    """By what a representation is told from another: a strong ETag, and when it was last changed, where that is known."""

    etag: str
    modified: datetime | None = None

    @classmethod
    def of(cls, data: Any, modified: datetime | None = None) -> "Validators":
        """Those of a representation that is `data` as JSON."""
        digest = hashlib.sha256(json.dumps(data)).digest()
        return cls(f'"{urlsafe_b64encode(digest[:18]).decode()}"', modified)

    @property
    def seconds(self) -> int | None:
        """The last change in whole seconds, as an HTTP date has it."""
        return None if self.modified is None else int(self.modified.timestamp())

    def headers(self) -> dict[str, str]:
        """The header fields that say them."""
        date = {} if self.seconds is None else {"Last-Modified": http_date(self.seconds)}
        return {"ETag": self.etag, **date}


def is_modified(request: Request, now: Validators) -> bool:
    """Whether a GET is answered in full; False is a 304. Raises PreconditionFailed."""
    _check_match(request, now)
    if (listed := request.headers.get(NONE_MATCH)) is not None:
        return not _is_listed(now.etag, listed, weakly=True)
    since = parse_http_date_safe(request.headers.get(MODIFIED, ""))
    return since is None or now.seconds is None or now.seconds > since


def check(request: Request, now: Validators) -> None:
    """For a write. Raises PreconditionFailed."""
    _check_match(request, now)
    listed = request.headers.get(NONE_MATCH)
    if listed is not None and _is_listed(now.etag, listed, weakly=True):
        raise PreconditionFailed


def _check_match(request: Request, now: Validators) -> None:
    if (listed := request.headers.get(MATCH)) is not None:
        # What is no entity tag matches none.
        if not _is_listed(now.etag, listed, weakly=False):
            raise PreconditionFailed
        return
    since = parse_http_date_safe(request.headers.get(UNMODIFIED, ""))
    if since is not None and now.seconds is not None and now.seconds > since:
        raise PreconditionFailed


def _is_listed(etag: str, listed: str, *, weakly: bool) -> bool:
    if listed.strip() == "*":
        return True
    tags = _ETAG.findall(listed)
    return etag in ([tag.removeprefix("W/") for tag in tags] if weakly else tags)


class ConditionalViewSet(GenericViewSet[Any]):
    """For views over models with `modified_at`: ETag and Last-Modified out, preconditions in.

    A use case that writes is given `self.precondition`, and calls it with the row that it has locked.
    """

    conditional = True

    @property
    def precondition(self) -> Callable[[Any], None]:
        """Raises PreconditionFailed for a row that is not the one which the client has seen."""
        return self._check

    def _check(self, instance: Any) -> None:
        if self.request.headers.keys() & {MATCH, UNMODIFIED, NONE_MATCH}:
            check(self.request, Validators.of(self.get_serializer(instance).data, instance.modified_at))

    def get_object(self) -> Any:
        """The row, remembered for its time of change."""
        found = super().get_object()
        self._modified = found.modified_at
        return found

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Add the validators of a JSON representation; a GET that has it already is a 304."""
        if self._is_representation(request, response):
            now = Validators.of(response.data, self._modified_at(request))
            headers = now.headers()
            try:
                if request.method in SAFE and not is_modified(request, now):
                    response = Response(status=HTTPStatus.NOT_MODIFIED)
            except PreconditionFailed as error:
                failed = exception_handler(error, {})
                assert failed is not None
                response, headers = failed, {}
            for name, value in headers.items():
                response[name] = value
        return super().finalize_response(request, response, *args, **kwargs)

    def _is_representation(self, request: Request, response: Response) -> bool:
        # After a PUT a validator would say that the body was kept as it was sent (RFC 9110, 9.3.4); ours gets an id.
        renderer = getattr(request, "accepted_renderer", None)
        return (
            response.status_code in {HTTPStatus.OK, HTTPStatus.CREATED}
            and request.method in {*SAFE, "POST", "PATCH"}
            and getattr(renderer, "format", None) == "json"
        )

    def _modified_at(self, request: Request) -> datetime | None:
        return getattr(self, "_modified", None) if request.method in SAFE else None
