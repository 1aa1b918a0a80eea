"""The request id: a token that is passed with a request through HTTP, the outbox, Kafka and every log line."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "X-Request-Id"

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_request_id: ContextVar[str] = ContextVar("request_id", default="")


def new() -> str:
    """Generate a request id, a random UUID."""
    return str(uuid.uuid4())


def sane(token: str) -> bool:
    """Whether a request id of a client is accepted: 1 to 128 letters, digits or `._:-`.

    Anything else could break a log line or a header, or put unwanted content into a log.
    """
    return _SANE.fullmatch(token) is not None


def accepted(token: str) -> str:
    """The request id of a client, if it is accepted; otherwise a new one."""
    return token if sane(token) else new()


def current_request_id() -> str:
    """The current request id, or `""` outside of a request or event."""
    return _request_id.get()


@contextmanager
def bind_request_id(request_id: str) -> Iterator[str]:
    """Run the body with this request id, which its logs and events contain. Afterwards the previous id applies again."""
    token = _request_id.set(request_id)
    try:
        yield request_id
    finally:
        _request_id.reset(token)
