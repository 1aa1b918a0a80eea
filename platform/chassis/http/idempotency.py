"""`Idempotency-Key`: a POST that is sent again, by a person, a proxy or a bad network, happens once.

The key is a row in the transaction of the use case. A twin that comes at the same time waits at the unique index: when
the first commits, it gets that answer; when the first fails or dies, its row is gone with it, and the twin runs itself.
"""

import hashlib
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.conf import settings
from django.db import connections, transaction
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from chassis import json
from chassis.http.errors import Unprocessable
from chassis.http.models import IdempotencyKey
from chassis.observability import metrics

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

_KEY = re.compile(r"[!-~]{1,255}")

View = TypeVar("View", bound=Callable[..., Response])


def idempotent(create: View) -> View:
    """Let a view's method take an Idempotency-Key; without one nothing changes.

    The same key and body get the first answer again; the same key with another body is a 422. Only success is
    remembered: after an error the same key may try again.
    """

    @wraps(create)
    def create_once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return create(view, request, *args, **kwargs)
        if not _KEY.fullmatch(key):
            raise ValidationError({HEADER: ["1 to 255 visible ASCII characters, without white space."]})
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


def _fingerprint(request: Request) -> bytes:
    # The body comes first: once it is read, every parser can read it again.
    body: bytes = request._request.body
    asked = f"{request.method} {request._request.path_info} {request.content_type}\n"
    return hashlib.sha256(asked.encode(errors="surrogateescape") + body).digest()


def _claim(key: str, fingerprint: bytes) -> bool:
    """Whether the key is new. Waits while another transaction holds it."""
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        cursor.execute(
            "INSERT INTO idempotency_keys (key, fingerprint) VALUES (%s, %s) ON CONFLICT DO NOTHING", [key, fingerprint]
        )
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
