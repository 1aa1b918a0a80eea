"""The manifest of a service behind the gateway: `deploy/kubernetes/<service>.yaml`, from the templates in that folder."""

from pathlib import Path
from string import Template

from services.declaration import Process, Service

FOLDER = Path("deploy/kubernetes")
MARK = "# Written by `make generate`"


class _Template(Template):
    """`@{name}` is replaced; Kubernetes uses `$` itself."""

    delimiter = "@"


def manifest(root: Path, service: Service) -> str:
    """The content of the file."""
    head = f"{MARK} from {service.name}/service.py and {FOLDER}/templates/: edit those instead.\n"
    return head + "---\n".join(
        [
            *(_render(root, kind, service, process) for kind, process in service.processes().items()),
            *(_render(root, command, service) for command in service.jobs),
            *([_render(root, "purge", service)] if service.database else []),
        ]
    )


def secret_commands(services: tuple[Service, ...]) -> list[str]:
    """The commands that create the secrets of all services, for the README."""
    return [
        f"kubectl -n microservices create secret generic {one.name} --from-file=secret_key={one.name}.key"
        + (f" --from-file={one.database_variable.lower()}=FILE" if one.database else "")
        for one in services
    ]


def _render(root: Path, template: str, service: Service, process: Process | None = None) -> str:
    values = {
        "name": service.name,
        "minute": str(17 + service.port * 20 % 43),
    }  # so that not all services purge at once
    if process:
        values |= {key: str(getattr(process, key)) for key in ("replicas", "cpu", "memory", "memory_limit")}
    wait = _template(root, "wait").substitute(values) if service.database else ""
    return _template(root, template).substitute(values, wait=wait)


def _template(root: Path, name: str) -> _Template:
    return _Template((root / FOLDER / "templates" / f"{name}.yaml").read_text())
