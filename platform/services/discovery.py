"""The list of all services: each top-level folder with a `service.py`, except the folders that are not services."""

import importlib.util
import traceback
from pathlib import Path
from types import ModuleType

from services.declaration import FOLDERS, BadDeclaration, Kind, Service

ROOT = Path(__file__).resolve().parent.parent.parent


def discover(root: Path = ROOT) -> tuple[Service, ...]:
    """The services below `root`, ordered by port. Raises BadDeclaration, also if two of them conflict."""
    services = sorted((_load(path, root) for path in _declarations(root)), key=lambda service: service.port)
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


def _load(path: Path, root: Path) -> Service:
    where = path.relative_to(root)
    service = getattr(_run(path, where), "SERVICE", None)
    if not isinstance(service, Service):
        raise BadDeclaration(f"{where} must define SERVICE = Service(…)")
    if service.name != path.parent.name:
        raise BadDeclaration(
            f"{where}: name must be the name of its folder, {path.parent.name!r}, not {service.name!r}"
        )
    return service


def _run(path: Path, where: Path) -> ModuleType:
    # By path, not by name: declarations are read before Django is set up, which a package's __init__ may require.
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}.service", path)
    if spec is None or spec.loader is None:
        raise BadDeclaration(f"{where} cannot be read as a Python module")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BadDeclaration as error:
        raise BadDeclaration(f"{where}: {error}") from None
    except Exception as error:
        line = f", line {number}" if (number := _line(error, path)) else ""
        text = error.msg if isinstance(error, SyntaxError) else error
        raise BadDeclaration(f"{where}{line}: {type(error).__name__}: {text}") from error
    return module


def _line(error: Exception, path: Path) -> int | None:
    """The line of the file that raised the error."""
    if isinstance(error, SyntaxError):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return lines[-1] if lines else None


def _require_unique(services: list[Service], what: str) -> None:
    seen: dict[object, str] = {}
    for service in services:
        value = getattr(service, what)
        if value is None:
            continue
        if value in seen:
            raise BadDeclaration(f"{_both(seen[value], service.name)} both have the {what} {value!r}")
        seen[value] = service.name


def _require_own_ports(services: list[Service]) -> None:
    seen: dict[int, tuple[str, Kind]] = {}
    for service in services:
        for kind in service.processes():
            port = service.port_of(kind)
            if port in seen:
                other, its_kind = seen[port]
                raise BadDeclaration(
                    f"{_both(other, service.name)} both use port {port}:"
                    f" for the {its_kind} process of {other} and for the {kind} process of {service.name}"
                )
            seen[port] = service.name, kind


def _both(one: str, other: str) -> str:
    return f"{one}/service.py and {other}/service.py"


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
