"""The monitor beside a test's system, and what Prometheus scrapes of both."""

import json
import sys
from collections.abc import Iterator

from embedded import ports
from embedded.processes import Child, drive
from embedded.runner import get
from embedded.system import ROOT
from embedded.targets import labels
from tests.acceptance.harness import READY_WITHIN, SECRET_KEY, Harness
from tests.telemetry.prometheus import Prometheus


class Monitor:
    """The monitor of a test's system."""

    def __init__(self, system: Harness) -> None:
        [self.port] = ports.free(1)
        environment = {
            "PATH": "/usr/bin:/bin",
            "DJANGO_SETTINGS_MODULE": "settings.monitor",
            "ENVIRONMENT": "development",
            "SECRET_KEY": SECRET_KEY,
            "LOG_FORMAT": "json",
            "WORKER_PORT": str(self.port),
            "KAFKA_BOOTSTRAP_SERVERS": system.engines.kafka.bootstrap_servers,
        }
        self._child = Child(
            [sys.executable, "manage.py", "monitor"],
            log=system.folder / "monitor.log",
            name="monitor",
            cwd=ROOT,
            env=environment,
        )
        drive(self._child.until(lambda: get(self.port, "/health/ready")[0] == 200, within=READY_WITHIN))

    def stop(self) -> None:
        """Stop it."""
        self._child.stop()


def monitor(system: Harness) -> Monitor:
    """Start the monitor, and wait until it is ready."""
    return Monitor(system)


def targets(
    system: Harness, monitor: Monitor | None, before: Prometheus | None = None
) -> Iterator[tuple[str, str, int]]:
    """(service, process, port) of every process of the system, and of the monitor: a new one, or that of `before`."""
    for member in system.members.values():
        yield *labels(member.process), member.metrics_port
    if monitor is not None:
        yield "system", "monitor", monitor.port
    elif before is not None:
        for group in json.loads(before.targets.read_text()):
            if group["labels"]["process"] == "monitor":
                yield "system", "monitor", int(group["targets"][0].rpartition(":")[2])
