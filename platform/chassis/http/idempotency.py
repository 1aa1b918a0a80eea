"""`Idempotency-Key`: a POST, PUT or PATCH that is sent again, by a person, a proxy or a bad network, happens once.

The key is a row in the transaction of the use case. A twin that comes at the same time waits at the unique index: when
the first commits, it gets that answer; when the first fails or dies, its row is gone with it, and the twin runs itself.
It waits for IDEMPOTENCY_WAIT_SECONDS at most, as it holds a thread and a connection meanwhile; then it is a 409.
"""

import hashlib
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.conf import settings
from django.db import OperationalError, connections, transaction
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from chassis import json
from chassis.database import failures
from chassis.http.errors import Conflict, Unprocessable
from chassis.http.models import IdempotencyKey
from chassis.observability import metrics

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

_BARE = re.compile(r'(?!")[!-+\--~]{1,255}')
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
"""A string of RFC 8941, which the draft of the header asks for; most clients send the bare key, which is the same one. A
comma is in no bare key: it stands between two fields of this name."""

PATTERN = r'^(?:[!#-+\-.-~][!-+\-.-~]{0,254}|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$'
"""Both, for the OpenAPI document."""

View = TypeVar("View", bound=Callable[..., Response])


def idempotent(create: View) -> View:
    """Let a view's method take an Idempotency-Key; without one nothing changes.

    The same key and body get the first answer again; the same key with another body is a 422. Only success is
    remembered: after an error the same key may try again.
    """

    @wraps(create)
    def create_once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        field = request.headers.get(HEADER)
        if field is None:
            return create(view, request, *args, **kwargs)
        key = _read(field)
        fingerprint = _fingerprint(request)
        with transaction.atomic(using=settings.SERVICE_DATABASE):
            while not _claim(key, fingerprint):
                if (earlier := IdempotencyKey.objects.filter(pk=key).first()) is not None:
                    return _answer_again(earlier, fingerprint)
                # Its retention time ended between the two statements, and it was purged: the key is new again.
            response = create(view, request, *args, **kwargs)
            _remember(key, response)
        return response

    create_once.idempotent = True  # type: ignore[attr-defined]
    return create_once  # type: ignore[return-value]


class InProgress(Conflict):
    """The same request is being answered at this moment: try again, and get its answer."""

    default_detail = f"A request with this {HEADER} is being answered; try again."
    default_code = "in_progress"
    wait = 1


def _read(field: str) -> str:
    """The key that a header field holds. Raises ValidationError for a field that holds none, or for several."""
    if quoted := _STRING.fullmatch(field):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
        if 1 <= len(key) <= 255:
            return key
    elif _BARE.fullmatch(field):
        return field
    raise ValidationError(
        {HEADER: ["One key: 1 to 255 visible ASCII characters without comma, or a string in quotes."]}
    )


def _fingerprint(request: Request) -> bytes:
    # The body comes first: once it is read, every parser can read it again.
    body: bytes = request._request.body
    asked = f"{request.method} {request._request.path_info} {request._request.content_type}\n"
    return hashlib.sha256(asked.encode(errors="surrogateescape") + body).digest()


def _claim(key: str, fingerprint: bytes) -> bool:
    """Whether the key is new. Waits a while when another transaction holds it, then raises InProgress."""
    patience = int(settings.IDEMPOTENCY_WAIT_SECONDS * 1000)
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        try:
            # Three statements in one message: the limit is for this wait alone, and costs no round trip.
            cursor.execute(
                "SET LOCAL lock_timeout = %s; INSERT INTO idempotency_keys (key, fingerprint) VALUES (%s, %s)"
                " ON CONFLICT DO NOTHING; SET LOCAL lock_timeout = 0",
                [patience, key, fingerprint],
            )
        except OperationalError as error:
            if failures.sqlstate(error) == failures.LOCK_TIMEOUT:
                raise InProgress from None
            raise
        cursor.nextset()
        return bool(cursor.rowcount)


def _answer_again(earlier: IdempotencyKey, fingerprint: bytes) -> Response:
    if bytes(earlier.fingerprint) != fingerprint:
        raise Unprocessable(f"This {HEADER} was used for another request.")
    metrics.IDEMPOTENT_REPLAYS.inc()
    headers = {REPLAYED: "true"} | ({"Location": earlier.location} if earlier.location else {})
    assert earlier.body is not None
    return Response(json.loads(bytes(earlier.body)), status=earlier.status, headers=headers)


def _remember(key: str, response: Response) -> None:
    assert 200 <= response.status_code < 300, "an error is raised, not returned: it must undo the key as well"
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_keys SET status = %s, location = %s, body = %s WHERE key = %s",
            [response.status_code, response.get("Location"), json.dumps(response.data), key],
        )
