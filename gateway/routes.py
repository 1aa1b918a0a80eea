"""The routes: each service declares its `route` in its `service.py`.

Other paths belong to the gateway itself (`urls.py`): docs, schema, health, metrics, static files.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import services

PREFIX = b"/api"
"""The prefix that paths have at the gateway but not at the service, which receives it as X-Forwarded-Prefix."""

_BELOW = PREFIX + b"/"


@dataclass(frozen=True, slots=True)
class Route:
    """Requests at and below `path` go to the replicas of `service`."""

    path: bytes
    service: str

    @property
    def label(self) -> str:
        """Its name in logs and traces; never the whole path, which may contain personal data."""
        return self.path.decode()


ROUTES = tuple(
    Route(_BELOW + service.route.encode(), service=service.name) for service in services.SERVICES if service.route
)

SERVICE_NAMES = tuple(service.name for service in services.BEHIND_GATEWAY)
"""The services behind the gateway, whose documents are merged and whose readiness is reported."""

_BY_SEGMENT = {route.path.removeprefix(_BELOW): route for route in ROUTES}


def find(raw_path: bytes) -> Route | None:
    """The route of a path as received (not decoded, without the query), or None.

    Whole segments are compared byte by byte: `/api/usersx`, `/api//users` and `/api/%75sers` have no route.
    """
    if not raw_path.startswith(_BELOW):
        return None
    return _BY_SEGMENT.get(raw_path[len(_BELOW) :].partition(b"/")[0])


def to_service(raw_path: bytes) -> bytes:
    """The service's own path for a path with a route: without PREFIX, otherwise unchanged."""
    return raw_path.removeprefix(PREFIX)


def to_gateway(path: str) -> str:
    """The path at the gateway for a service's own path; the inverse of `to_service`."""
    return PREFIX.decode() + path


def has_dot_segments(raw_path: bytes) -> bool:
    """Whether a reader of this path could see a dot segment in it, and thus resolve it to another path.

    Encoded dots and slashes count (`%2e%2e`, `..%2f`), also if encoded twice, as do backslashes and `..;`, since the
    gateway does not know how the service, or a proxy in front of it, decodes.
    """
    if b"." not in raw_path and b"%" not in raw_path:
        return False
    for _ in range(3):
        for segment in raw_path.replace(b"\\", b"/").split(b"/"):
            if segment.partition(b";")[0] in (b".", b".."):
                return True
        decoded = unquote_to_bytes(raw_path)
        if decoded == raw_path:
            return False
        raw_path = decoded
    return False
