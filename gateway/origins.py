"""CORS fields of the gateway's own responses, which pages of CORS_ALLOWED_ORIGINS may read.

Services and Django's pages add these fields themselves (`chassis.http.origins`).
"""

import re

from chassis.http import origins
from gateway.connection import Header

_VARY = (b"vary", b"Origin")
_SHOWN = (b"access-control-expose-headers", origins.EXPOSED_HEADERS.encode())
_PREFLIGHT = [
    (b"access-control-allow-methods", origins.ALLOWED_METHODS.encode()),
    (b"access-control-allow-headers", origins.ALLOWED_HEADERS.encode()),
    (b"access-control-max-age", b"%d" % origins.PREFLIGHT_SECONDS),
]
_ORIGIN = re.compile(rb"\r\norigin:[ \t]*+([!-~]++)[ \t]*(?=\r\n)", re.IGNORECASE)


class Origins:
    """The origins that may read responses; `allowed` is in lower case."""

    __slots__ = ("_allowed",)

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)

    def fields(self, request: list[Header]) -> list[Header]:
        """The fields of the response to a request with these fields."""
        named = [value for name, value in request if name == b"origin"]
        return self._fields(named[0] if len(named) == 1 else b"")

    def fields_for(self, head: bytes | bytearray) -> list[Header]:
        """The fields of the response to a head that is incomplete or could not be parsed."""
        found = _ORIGIN.findall(head) if self._allowed else []
        return self._fields(found[0] if len(found) == 1 else b"")

    def preflight(self, request: list[Header]) -> list[Header] | None:
        """The fields of the response to a preflight from an allowed origin; None for any other OPTIONS."""
        if not any(name == b"access-control-request-method" for name, _ in request):
            return None
        fields = self.fields(request)
        return [*fields, *_PREFLIGHT] if len(fields) > 1 else None

    def _fields(self, origin: bytes) -> list[Header]:
        if origin.lower() in self._allowed:
            return [_VARY, (b"access-control-allow-origin", origin), _SHOWN]
        return [_VARY] if self._allowed else []
