"""Bodies that are too large."""

from django.http import HttpRequest

MOST_DISCARDED = 64 * 1024 * 1024
"""How much of a larger body is read and discarded."""


def discard(request: HttpRequest) -> None:
    """Read the rest of a body, up to a limit: a client that still sends would not read the response. Raises OSError."""
    left = MOST_DISCARDED
    while left > 0 and (chunk := request.read(65_536)):
        left -= len(chunk)
