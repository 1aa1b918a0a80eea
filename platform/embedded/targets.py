"""The running processes of `make up` in a file that Prometheus reads, with the labels service and process."""

import json
from collections.abc import Mapping

from embedded import ports
from embedded.system import MONITOR, PROCESSES, ROOT, Process
from services import by_name

TARGETS = ROOT / "var" / "targets.json"


def group(process: Process, port: int) -> dict[str, object]:
    """The target group of one process."""
    service, kind = labels(process)
    return {"targets": [f"{ports.HOST}:{port}"], "labels": {"service": service, "process": kind}}


def write(numbers: Mapping[str, int]) -> None:
    """Write the file, atomically, since Prometheus may read it at any time. `numbers` maps processes to their ports."""
    staging = TARGETS.with_name(f".{TARGETS.name}.new")
    groups = [group(process, numbers[process.name]) for process in PROCESSES]
    staging.write_text(json.dumps(groups, indent=2) + "\n")
    staging.replace(TARGETS)


def labels(process: Process) -> tuple[str, str]:
    """The labels `service` and `process` of a process."""
    if process == MONITOR:
        return "system", "monitor"
    if process.name != process.service:
        return process.service, process.name.removeprefix(f"{process.service}-")
    return process.service, "gateway" if by_name(process.service).edge else "web"
