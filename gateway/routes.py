"""Where each path goes: what services declare as their `route`, in their `service.py`.

A path that is of none of them is the gateway's own (`urls.py`): docs, schema, health, metrics, static files.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import services

PREFIX = b"/api"
"""What a path has at the gateway and not at its service, which is told of it as X-Forwarded-Prefix."""

_BELOW = PREFIX + b"/"


@dataclass(frozen=True, slots=True)
class Route:
    """Everything at and below `path` goes to the replicas of `service`."""

    path: bytes
    service: str

    @property
    def label(self) -> str:
        """How logs and traces call it; never the whole path, which may hold personal data."""
        return self.path.decode()


ROUTES = tuple(
    Route(_BELOW + service.route.encode(), service=service.name) for service in services.SERVICES if service.route
)

SERVICE_NAMES = tuple(service.name for service in services.BEHIND_GATEWAY)
"""Every service behind the gateway: whose documents are merged and whose health is told."""

_BY_SEGMENT = {route.path.removeprefix(_BELOW): route for route in ROUTES}


def find(raw_path: bytes) -> Route | None:
    """The route of a path as it came over the wire (undecoded, without the query), or None.

    Whole segments are compared, byte by byte: `/api/usersx`, `/api//users` and `/api/%75sers` are nobody's.
    """
    if not raw_path.startswith(_BELOW):
        return None
    return _BY_SEGMENT.get(raw_path[len(_BELOW) :].partition(b"/")[0])


def to_service(raw_path: bytes) -> bytes:
    """The service's own path for a path that has a route: without PREFIX, and otherwise unchanged."""
    return raw_path.removeprefix(PREFIX)


def to_gateway(path: str) -> str:
    """The path at the gateway for a service's own path: the inverse of `to_service`."""
    return PREFIX.decode() + path


def climbs(raw_path: bytes) -> bool:
    """Whether somebody who reads this path could find a dot segment in it, and so end elsewhere than it was sent.

    Encoded dots and slashes count (`%2e%2e`, `..%2f`), also twice encoded ones, backslashes, and `..;`, since the
    gateway does not know how the service, or what stands in front of it, decodes.
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
