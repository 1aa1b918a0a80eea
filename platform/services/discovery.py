"""The list of all services: each top-level folder with a `service.py`, except the folders that are not services."""

import importlib.util
from pathlib import Path

from services.declaration import FOLDERS, BadDeclaration, Service

ROOT = Path(__file__).resolve().parent.parent.parent


def discover(root: Path = ROOT) -> tuple[Service, ...]:
    """The services below `root`, ordered by port. Raises BadDeclaration, also if two of them conflict."""
    services = sorted(map(_load, _declarations(root)), key=lambda service: service.port)
    for what in ("database", "route"):
        _require_unique(services, what)
    _require_own_ports(services)
    _require_own_settings(services)
    _require_one_edge(services)
    return tuple(services)


def _declarations(root: Path) -> list[Path]:
    # `tests/service.py` could exist without declaring a service, and `.venv` is not our code.
    return [
        path
        for path in root.glob("*/service.py")
        if path.parent.name not in FOLDERS and not path.parent.name.startswith(".")
    ]


def _load(path: Path) -> Service:
    # By path, not by name: declarations are read before Django is set up, which a package's __init__ may require.
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}.service", path)
    if spec is None or spec.loader is None:
        raise BadDeclaration(f"{path} cannot be read as a Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    service = getattr(module, "SERVICE", None)
    if not isinstance(service, Service):
        raise BadDeclaration(f"{path} must define SERVICE = Service(…)")
    if service.name != path.parent.name:
        raise BadDeclaration(f"{path}: name must be the name of its folder, {path.parent.name!r}, not {service.name!r}")
    return service


def _require_unique(services: list[Service], what: str) -> None:
    seen: dict[object, str] = {}
    for service in services:
        value = getattr(service, what)
        if value is None:
            continue
        if value in seen:
            raise BadDeclaration(f"{service.name}/service.py: {what} {value!r} is already used by {seen[value]}")
        seen[value] = service.name


def _require_own_ports(services: list[Service]) -> None:
    seen: dict[int, str] = {}
    for service in services:
        for kind in service.processes():
            port, process = service.port_of(kind), f"{service.name} ({kind})"
            if port in seen:
                raise BadDeclaration(
                    f"{service.name}/service.py: port {port} of {process} is already used by {seen[port]}"
                )
            seen[port] = process


def _require_own_settings(services: list[Service]) -> None:
    # The URLs of databases and of services are variables too.
    seen = {variable: one.name for one in services for variable in one.variables()}
    for service in services:
        for setting in service.settings:
            if setting.name in seen:
                raise BadDeclaration(
                    f"{service.name}/service.py: setting {setting.name} is already used by {seen[setting.name]}"
                )
            seen[setting.name] = service.name


def _require_one_edge(services: list[Service]) -> None:
    edges = [service.name for service in services if service.edge]
    if len(edges) > 1:
        raise BadDeclaration(f"{edges[1]}/service.py: edge is already set in {edges[0]}")


SERVICES = discover()
BEHIND_GATEWAY = tuple(service for service in SERVICES if not service.edge)
WITH_DATABASE = tuple(service for service in SERVICES if service.database)


def by_name(name: str) -> Service:
    """The service of this name. Raises KeyError."""
    return {service.name: service for service in SERVICES}[name]
