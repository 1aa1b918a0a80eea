"""The services of the system, and what each of them declares. Importable without Django."""

from services.declaration import BadDeclaration, Kind, Process, Service, Setting
from services.discovery import BEHIND_GATEWAY, SERVICES, WITH_DATABASE, by_name, discover

__all__ = [
    "BEHIND_GATEWAY",
    "SERVICES",
    "WITH_DATABASE",
    "BadDeclaration",
    "Kind",
    "Process",
    "Service",
    "Setting",
    "by_name",
    "discover",
]
