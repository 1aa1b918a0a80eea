"""Whether the gateway goes on, and which services respond.

None of these is required: without one the gateway still serves the others, and says so.
"""

from dataclasses import dataclass

import orjson
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable, ServiceWarning

from chassis.health.registry import Part
from gateway import routes
from gateway.connection import UpstreamError
from gateway.documents import fetch
from gateway.drain import Listener

TIMEOUT_SECONDS = 1.2
"""A service's own readiness may take that long; all parts together have 1.5 s."""


@dataclass
class Service(HealthCheck):
    """A replica of the service says that it is ready."""

    service: str

    async def run(self) -> None:
        """Ask its `/health/ready`. Raises ServiceUnavailable, or ServiceWarning when it serves but misses something."""
        try:
            status, body = await fetch(self.service, "/health/ready", within=TIMEOUT_SECONDS)
        except (UpstreamError, TimeoutError) as error:
            raise ServiceUnavailable("does not answer") from error
        if status != 200:
            raise ServiceUnavailable("is not ready")
        if _says(body) == "degraded":
            raise ServiceWarning("is degraded")


def _says(body: bytes) -> object:
    try:
        response = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return response.get("status") if isinstance(response, dict) else None


def parts() -> list[Part]:
    """What the gateway depends on: that it is not about to close."""
    services = [Part(service, Service(service), required=False) for service in routes.SERVICE_NAMES]
    return [Part("listener", Listener()), *services]
