"""The services: what is declared of each, how its processes are, and, on request, its handlers and settings."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console import htmx, system
from console.failures import Away, NotFound
from console.pages.catalogue.events import entries
from console.pages.map import states
from console.sources.events import Description
from console.sources.processes import Snapshot
from console.sources.staff import Refused
from services import SERVICES, Service

MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process as the page shows it; what it has not reported yet is empty."""

    snapshot: Snapshot
    state: states.State
    version: str
    memory: str


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service as the page shows it. `url` is that of its web process."""

    service: Service
    processes: tuple[ProcessRow, ...]
    description: Description
    url: str
    gateway: str

    @property
    def has_details(self) -> bool:
        """Whether it answers for its handlers and settings."""
        return not self.service.edge


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """All services and events."""
    console = system.current()
    console.processes.watch()
    more = {"services": _rows(), "events": entries(console.events.read()), "gateway": _gateway()}
    return render(request, "console/catalogue/index.html", more)


@require_safe
def cells(request: HttpRequest) -> HttpResponse:
    """State, version and memory of all processes, which replace those of the page."""
    system.current().processes.watch()
    return render(request, "console/catalogue/cells.html", {"services": _rows(), "is_answer": True})


@require_safe
def details(request: HttpRequest, name: str) -> HttpResponse:
    """The handlers and settings of a service: a fragment for the page, or a page of its own."""
    row = next((one for one in _rows() if one.service.name == name), None)
    if row is None:
        raise NotFound(f"There is no service {name[:80]!r}.")
    template = "console/catalogue/details.html" if htmx.wants_part(request) else "console/catalogue/service.html"
    return render(request, template, {"one": row, **_asked(name)})


def _rows() -> list[ServiceRow]:
    console = system.current()
    known = {one.service: one for one in console.events.known()}
    found = []
    for service in SERVICES:
        snapshots = [one for one in console.processes.snapshots if one.process.service == service.name]
        web = next((one.process.url for one in snapshots if one.process.kind in {"web", "gateway"}), "")
        rows = tuple(_row(one) for one in snapshots)
        found.append(ServiceRow(service, rows, known.get(service.name, Description(service.name)), web, _gateway()))
    return found


def _row(snapshot: Snapshot) -> ProcessRow:
    versions = [dict(labels).get("version", "") for labels in snapshot.metrics.get("build_info", {})]
    memory = snapshot.value("process_resident_memory_bytes")
    return ProcessRow(
        snapshot, states.of_process(snapshot), next(iter(versions), ""), f"{memory / MIB:.0f} MiB" if memory else ""
    )


def _gateway() -> str:
    """The address of the gateway."""
    return next((one.url for one in system.current().processes.all if one.kind == "gateway"), "")


def _asked(service: str) -> dict[str, Any]:
    """What the service says of itself to staff, or why it does not."""
    staff = system.current().staff
    if service not in staff.services:
        return {"problem": "The gateway has no endpoints for staff; docs/settings.md lists its settings."}
    try:
        info, found = staff.get(service, "info"), staff.get(service, "settings")
        return {
            "info": info,
            "settings": found["settings"],
            "changed": [one for one in found["settings"] if not one["is_default"]],
        }
    except (Away, NotFound, Refused, LookupError, TypeError) as error:
        return {"problem": str(error)}
