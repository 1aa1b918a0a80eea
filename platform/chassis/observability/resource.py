"""What spans say of the process that recorded them, in the attributes of OpenTelemetry's resource."""

import os
import socket
import sys
from pathlib import Path

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

COMMANDS = {"serve": "gateway", "relay": "relay", "consume": "consume", "monitor": "monitor"}
"""The management commands that are long-lived processes, and their roles."""


class _Hashed(Resource):
    """A resource that is hashed once. The exporter hashes that of each span, for which the library formats it as JSON."""

    _hash = 0

    @classmethod
    def of(cls, other: Resource) -> "_Hashed":
        return cls(dict(other.attributes), other.schema_url)

    def __hash__(self) -> int:
        self._hash = self._hash or super().__hash__()
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)


def of(service: str, *, version: str, environment: str, role: str) -> Resource:
    """The resource of this process. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence."""
    described = {
        "service.name": service,
        "service.version": version,
        "service.instance.id": _instance(),
        "deployment.environment.name": environment,
        "process.role": role,
    }
    own = Resource.create({name: value for name, value in described.items() if value})
    return _Hashed.of(own.merge(OTELResourceDetector().detect()))


def here(resource: Resource) -> Resource:
    """The resource of this process, if `resource` is that of the process that it was forked from."""
    return _Hashed.of(resource.merge(Resource({"service.instance.id": _instance()})))


def role() -> str:
    """The role of this process: gateway, web, relay, consume, monitor, or command for any other management command."""
    if Path(sys.argv[0]).name != "manage.py":
        return "web"
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    return "web" if command == "runserver" else COMMANDS.get(command, "command")


def _instance() -> str:
    """The host and the process, which several processes of a machine need not share."""
    return f"{socket.gethostname()}:{os.getpid()}"
