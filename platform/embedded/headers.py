"""Reads the headers of any message, including those that confluent-kafka cannot decode."""

from operator import methodcaller
from typing import Any

_headers = methodcaller("headers")
"""`message.headers()` written directly in frequently executed code returns a corrupt list instead of raising."""


def headers_of(message: Any) -> list[tuple[str, bytes | None]]:
    """The headers of a message; empty if confluent-kafka cannot decode them because a name is not UTF-8."""
    try:
        return _headers(message) or []
    except (SystemError, UnicodeDecodeError):
        return []
