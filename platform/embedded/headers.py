"""The headers of a message, for readers that want to go on whatever stands on a topic."""

from operator import methodcaller
from typing import Any

_checked = methodcaller("headers")
"""A call of `message.headers()` that is written out, in code that runs often, gets a broken list where this one raises."""


def headers_of(message: Any) -> list[tuple[str, bytes | None]]:
    """Its headers; none where confluent-kafka cannot tell them, as a name is not UTF-8."""
    try:
        return _checked(message) or []
    except (SystemError, UnicodeDecodeError):
        return []
