"""Conditional requests (RFC 9110, 13): validators for reads, preconditions for writes.

The ETag is strong: a hash of the bytes of the JSON representation. A write checks its precondition in the transaction of the
use case, with the row locked, so of two writes based on the same version one is rejected with 412.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404
from django.utils.http import http_date, parse_http_date_safe
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from chassis import json
from chassis.database.prepared import ByKey
from chassis.http.errors import exception_handler

SAFE = frozenset({"GET", "HEAD"})

MATCH, NONE_MATCH = "If-Match", "If-None-Match"
MODIFIED, UNMODIFIED = "If-Modified-Since", "If-Unmodified-Since"

_ETAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')


class PreconditionFailed(exceptions.APIException):
    """The resource does not match the precondition of the request."""

    status_code = HTTPStatus.PRECONDITION_FAILED
    default_detail = "The resource does not match the precondition, for example because it has changed: read it again."
    default_code = "precondition_failed"


@dataclass(frozen=True, slots=True)
class Validators:
    """The validators of a representation: a strong ETag, and the time of the last change, if it is known."""

    etag: str
    modified: datetime | None = None

    @classmethod
    def of(cls, data: Any, modified: datetime | None = None) -> "Validators":
        """The validators of `data` as JSON."""
        return cls.of_json(json.dumps(data), modified)

    @classmethod
    def of_json(cls, body: bytes, modified: datetime | None = None) -> "Validators":
        """The validators of a representation."""
        digest = hashlib.sha256(body).digest()
        return cls(f'"{urlsafe_b64encode(digest[:18]).decode()}"', modified)

    @property
    def seconds(self) -> int | None:
        """The time of the last change in whole seconds, the resolution of an HTTP date."""
        return None if self.modified is None else int(self.modified.timestamp())

    def headers(self) -> dict[str, str]:
        """The header fields for these validators."""
        date = {} if self.seconds is None else {"Last-Modified": http_date(self.seconds)}
        return {"ETag": self.etag, **date}


def is_modified(request: Request, now: Validators) -> bool:
    """Whether a GET requires a full response; if not, the response is 304. Raises PreconditionFailed."""
    _check_match(request, now)
    if (listed := request.headers.get(NONE_MATCH)) is not None:
        return not _is_listed(now.etag, listed, weakly=True)
    since = parse_http_date_safe(request.headers.get(MODIFIED, ""))
    return since is None or now.seconds is None or now.seconds > since


def check(request: Request, now: Validators) -> None:
    """Check the precondition of a write. Raises PreconditionFailed."""
    _check_match(request, now)
    listed = request.headers.get(NONE_MATCH)
    if listed is not None and _is_listed(now.etag, listed, weakly=True):
        raise PreconditionFailed


def _check_match(request: Request, now: Validators) -> None:
    if (listed := request.headers.get(MATCH)) is not None:
        # A value that is not an entity tag matches nothing.
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


@cache
def row_by_key(view: Any) -> ByKey:
    """Reads a row of the view's queryset by its lookup field."""
    return ByKey(view.queryset, view.lookup_field)


class ConditionalViewSet(GenericViewSet[Any]):
    """For views of models with `modified_at`: sends ETag and Last-Modified, and checks preconditions.

    Pass `self.precondition` to a use case that writes, which calls it with the locked row.
    """

    conditional = True

    @property
    def precondition(self) -> Callable[[Any], None]:
        """A function that raises PreconditionFailed if a row does not match the request's precondition."""
        return self._check

    def _check(self, instance: Any) -> None:
        if self.request.headers.keys() & {MATCH, UNMODIFIED, NONE_MATCH}:
            check(self.request, Validators.of(self.get_serializer(instance).data, instance.modified_at))

    def filter_queryset(self, queryset: Any) -> Any:
        """The rows that the filter backends select; in a list also `filter_list`."""
        found = super().filter_queryset(queryset)
        return self.filter_list(found) if getattr(self, "action", None) == "list" else found

    def filter_list(self, queryset: Any) -> Any:
        """The rows of the list, which a subclass may select by the parameters of the request."""
        return queryset

    def get_object(self) -> Any:
        """Return the row, and remember its time of change."""
        found = self._read()
        self._modified = found.modified_at
        return found

    def _read(self) -> Any:
        view: Any = type(self)
        rows = view.queryset
        # A subclass may read something else, by overriding a method of REST framework.
        if rows is None or "queryset" in vars(self) or view.get_queryset is not GenericViewSet.get_queryset:
            return super().get_object()
        if self.filter_queryset(rows) is not rows:
            return super().get_object()
        try:
            found = row_by_key(view).get(self.kwargs[self.lookup_url_kwarg or self.lookup_field])
        except (rows.model.DoesNotExist, TypeError, ValueError, ValidationError):
            raise Http404 from None
        self.check_object_permissions(self.request, found)
        return found

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Add the validators of a JSON representation; if the client already has it, respond with 304."""
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
        # In a response to PUT, a validator would mean that the body was stored unchanged (RFC 9110, 9.3.4); here it gets an id.
        renderer = getattr(request, "accepted_renderer", None)
        return (
            response.status_code in {HTTPStatus.OK, HTTPStatus.CREATED}
            and request.method in {*SAFE, "POST", "PATCH"}
            and getattr(renderer, "format", None) == "json"
        )

    def _modified_at(self, request: Request) -> datetime | None:
        return getattr(self, "_modified", None) if request.method in SAFE else None
