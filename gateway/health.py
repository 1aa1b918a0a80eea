"""Readiness: whether the gateway accepts requests, and which services respond.

No service is required: the gateway serves the others, and reports that it is degraded.
"""

from dataclasses import dataclass

import orjson

from chassis.health.check import HealthCheck, ServiceUnavailable, ServiceWarning
from chassis.health.registry import Part
from gateway import routes
from gateway.connection import UpstreamError
from gateway.documents import fetch
from gateway.drain import Listener

TIMEOUT_SECONDS = 1.2
"""Time limit for the readiness of a service; all parts together have 1.5 s."""


@dataclass
class Service(HealthCheck):
    """A replica of the service is ready."""

    service: str

    async def run(self) -> None:
        """Request its `/health/ready`. Raises ServiceUnavailable, or ServiceWarning if it is degraded."""
        try:
            status, body = await fetch(self.service, "/health/ready", within=TIMEOUT_SECONDS)
        except (UpstreamError, TimeoutError) as error:
            raise ServiceUnavailable("does not respond") from error
        if status != 200:
            raise ServiceUnavailable("is not ready")
        if _status(body) == "degraded":
            raise ServiceWarning("is degraded")


def _status(body: bytes) -> object:
    try:
        response = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return response.get("status") if isinstance(response, dict) else None


def parts() -> list[Part]:
    """The parts of readiness: the listener and the services."""
    services = [
        Part(service, Service(service), required=False, sets_dependency=True) for service in routes.SERVICE_NAMES
    ]
    return [Part("listener", Listener()), *services]
