"""The request id: one token that a request carries through HTTP, the outbox, Kafka and every log line."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "X-Request-Id"

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_request_id: ContextVar[str] = ContextVar("request_id", default="")


def new() -> str:
    """Make a request id, a random UUID."""
    return str(uuid.uuid4())


def sane(token: str) -> bool:
    """Whether a request id that came from outside may be taken over: 1 to 128 letters, digits or `._:-`.

    Anything else could break a log line or a header, or carry what does not belong into a log.
    """
    return _SANE.fullmatch(token) is not None


def current_request_id() -> str:
    """The request id that this code runs for, or `""` outside any request or event."""
    return _request_id.get()


@contextmanager
def bind_request_id(request_id: str) -> Iterator[str]:
    """Run the body for this request: its logs and events carry the id. What was bound before is bound again after."""
    token = _request_id.set(request_id)
    try:
        yield request_id
    finally:
        _request_id.reset(token)
