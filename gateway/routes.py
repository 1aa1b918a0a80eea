"""Where each path goes: what services declare as their `route`, in their `service.py`.

A path that is of none of them is the gateway's own (`urls.py`): docs, schema, health, metrics, static files.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import services

PREFIX = b"/api"
"""What clients write before a service's own paths; stripped on the way, told to the service as X-Forwarded-Prefix."""


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
    Route(PREFIX + b"/" + service.route.encode(), service=service.name)
    for service in services.SERVICES
    if service.route
)

SERVICE_NAMES = tuple(service.name for service in services.BEHIND_GATEWAY)
"""Every service behind the gateway: whose documents are merged and whose health is told."""

_BY_SEGMENT = {route.path.removeprefix(PREFIX + b"/"): route for route in ROUTES}


def find(raw_path: bytes) -> Route | None:
    """The route of a path as it came over the wire (undecoded, without the query), or None.

    Whole segments are compared, byte by byte: `/api/usersx`, `/api//users` and `/api/%75sers` are nobody's.
    """
    parts = raw_path.split(b"/", 3)
    if len(parts) < 3 or parts[1] != b"api" or parts[0]:
        return None
    return _BY_SEGMENT.get(parts[2])


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
