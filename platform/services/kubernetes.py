"""The manifests of a service behind the gateway: `deploy/kubernetes/<service>.yaml`, from the templates beside it."""

from pathlib import Path
from string import Template

from services.declaration import Process, Service

FOLDER = Path("deploy/kubernetes")


class _Template(Template):
    """`@{name}` is replaced; `$` is Kubernetes' own."""

    delimiter = "@"


def manifest(root: Path, service: Service) -> str:
    """The text of the file."""
    head = f"# Written by `make generate` from {service.name}/service.py and {FOLDER}/templates/: change these.\n"
    return head + "---\n".join(
        [
            *(_render(root, kind, service, process) for kind, process in service.processes().items()),
            *([_render(root, "migrate", service)] if service.database else []),
            *([_render(root, "topics", service)] if service.uses_kafka else []),
            *([_render(root, "purge", service)] if service.database else []),
        ]
    )


def upstreams(services: tuple[Service, ...]) -> list[str]:
    """The addresses that the gateway is told."""
    return [f"{one.url_variable}: http://{one.name}:8000" for one in services if not one.edge]


def secret_commands(services: tuple[Service, ...]) -> list[str]:
    """What makes the secrets of all services, for the README."""
    return [
        f"kubectl -n microservices create secret generic {one.name} --from-file=secret_key={one.name}.key"
        + (f" --from-file={one.database_variable.lower()}=FILE" if one.database else "")
        for one in services
    ]


def _render(root: Path, template: str, service: Service, process: Process | None = None) -> str:
    folder = root / FOLDER / "templates"
    values = {
        "name": service.name,
        "minute": str(17 + service.port * 20 % 43),  # not all services at once
        "wait": (folder / "wait.yaml").read_text() if service.database else "",
        **(
            {key: str(getattr(process, key)) for key in ("replicas", "cpu", "memory", "memory_limit")}
            if process
            else {}
        ),
    }
    # Twice: what waits for a migration has the service's name in it.
    text = _Template((folder / f"{template}.yaml").read_text()).substitute(values)
    return _Template(text).substitute(values)
