"""`Idempotency-Key`: a POST, PUT or PATCH that a user, a proxy or a client library repeats takes effect once.

The key is a row in the transaction of the use case. A concurrent request with the same key waits at the unique index: if the
first commits, it receives the first one's response; if the first fails, its row is rolled back, and the second runs. It waits
at most IDEMPOTENCY_WAIT_SECONDS, since it occupies a thread and a connection, and is then rejected with 409.
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
"""A string as in RFC 8941, which the draft of the header requires; most clients send the bare key, which is equivalent. A bare
key cannot contain a comma, which separates several fields of this name."""

PATTERN = r'^(?:[!#-+\-.-~][!-+\-.-~]{0,254}|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$'
"""Both forms, for the OpenAPI document."""

View = TypeVar("View", bound=Callable[..., Response])


def idempotent(create: View) -> View:
    """Make a view's method accept an Idempotency-Key; requests without one are not affected.

    A request with the same key and body receives the first response again; with another body it is rejected with 422. Only
    successful responses are stored: after an error the key can be used again.
    """

    @wraps(create)
    def create_once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        field = request.headers.get(HEADER)
        if field is None:
            return create(view, request, *args, **kwargs)
        key = _parse(field)
        fingerprint = _fingerprint(request)
        with transaction.atomic(using=settings.SERVICE_DATABASE):
            while not _claim(key, fingerprint):
                if (earlier := IdempotencyKey.objects.filter(pk=key).first()) is not None:
                    return _replay(earlier, fingerprint)
                # The row was purged between the two statements, since its retention time ended: the key is new again.
            response = create(view, request, *args, **kwargs)
            _store(key, response)
        return response

    create_once.idempotent = True  # type: ignore[attr-defined]
    return create_once  # type: ignore[return-value]


class InProgress(Conflict):
    """A request with the same key is in progress: try again to receive its response."""

    default_detail = f"A request with this {HEADER} is in progress; try again."
    default_code = "in_progress"
    wait = 1


def _parse(field: str) -> str:
    """Parse the header field. Raises ValidationError if it contains no valid key, or several."""
    if quoted := _STRING.fullmatch(field):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
        if 1 <= len(key) <= 255:
            return key
    elif _BARE.fullmatch(field):
        return field
    raise ValidationError(
        {HEADER: ["Must be a single key: 1 to 255 visible ASCII characters without a comma, or a quoted string."]}
    )


def _fingerprint(request: Request) -> bytes:
    # Reading `body` first caches it, so that every parser can read it again.
    body: bytes = request._request.body
    request_line = f"{request.method} {request._request.path_info} {request._request.content_type}\n"
    return hashlib.sha256(request_line.encode(errors="surrogateescape") + body).digest()


def _claim(key: str, fingerprint: bytes) -> bool:
    """Insert the key, and return whether it is new. Waits for another transaction that holds it, then raises InProgress."""
    timeout_ms = int(settings.IDEMPOTENCY_WAIT_SECONDS * 1000)
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        try:
            # Three statements in one message: the timeout applies only to this wait, without another round trip.
            cursor.execute(
                "SET LOCAL lock_timeout = %s; INSERT INTO idempotency_keys (key, fingerprint) VALUES (%s, %s)"
                " ON CONFLICT DO NOTHING; SET LOCAL lock_timeout = 0",
                [timeout_ms, key, fingerprint],
            )
        except OperationalError as error:
            if failures.sqlstate(error) == failures.LOCK_TIMEOUT:
                raise InProgress from None
            raise
        cursor.nextset()
        return bool(cursor.rowcount)


def _replay(earlier: IdempotencyKey, fingerprint: bytes) -> Response:
    if bytes(earlier.fingerprint) != fingerprint:
        raise Unprocessable(f"This {HEADER} was used for a different request.")
    metrics.IDEMPOTENT_REPLAYS.inc()
    headers = {REPLAYED: "true"} | ({"Location": earlier.location} if earlier.location else {})
    assert earlier.body is not None
    return Response(json.loads(bytes(earlier.body)), status=earlier.status, headers=headers)


def _store(key: str, response: Response) -> None:
    assert 200 <= response.status_code < 300, "errors must be raised, not returned, so that the key is rolled back"
    connection: Any = connections[settings.SERVICE_DATABASE]
    connection.postpone(
        "UPDATE idempotency_keys SET status = %s, location = %s, body = %s WHERE key = %s",
        [response.status_code, response.get("Location"), json.dumps(response.data), key],
    )
