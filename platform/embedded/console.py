"""The console of the system, which `make up` and `make demo ARGS=--open` start, and where all processes send their spans."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from embedded.ports import HOST
from embedded.system import PROCESSES, Process
from embedded.targets import labels

CONSOLE = Process("console", "console", ("manage.py", "console"), "CONSOLE_PORT", 8600, (("CONSOLE_PORT", "PORT"),))
"""The console, which belongs to no service and which no process needs."""

TRACES_PER_SECOND = 10
"""How many new traces per second are recorded, so that a load test costs no more than a person's clicks."""
EXPORT_EVERY_MS = 400
"""How often a process sends its spans: a story is seen within a second after it has ended."""

EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables with which a person sends spans elsewhere: they are obeyed, and the console shows log lines only."""


@dataclass(frozen=True)
class Console:
    """The console of a run: its port and token, the token for the services' endpoints for staff, and the folder of log files."""

    port: int
    token: str
    operator_token: str
    logs: Path

    @property
    def url(self) -> str:
        """The address for a browser."""
        return self.url_of("/")

    def url_of(self, path: str) -> str:
        """The address of a page for a browser that does not have the token yet."""
        return f"http://{HOST}:{self.port}{path}?{urlencode({'token': self.token})}"

    def variables(self, ports: Mapping[str, int], health_ports: Mapping[str, int]) -> dict[str, str]:
        """What the console's own environment has besides that of every process."""
        return {
            "CONSOLE_TOKEN": self.token,
            "CONSOLE_LOGS": str(self.logs),
            "OPERATOR_TOKEN": self.operator_token,
            "CONSOLE_PROCESSES": json.dumps([_described(one, ports, health_ports) for one in PROCESSES]),
            "OTEL_TRACES_EXPORTER": "none",
        }

    def variables_of_services(self) -> dict[str, str]:
        """What the environment of every other process has besides: where to send spans, and who may ask as staff."""
        operator = {"OPERATOR_TOKEN": self.operator_token}
        if any(os.environ.get(name) for name in EXPORTERS):
            return operator
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_ratelimiting", "OTEL_TRACES_SAMPLER_ARG": str(TRACES_PER_SECOND)}
        return {
            **operator,
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{self.port}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={quote(f'Bearer {self.token}')}",
            "OTEL_BSP_SCHEDULE_DELAY": os.environ.get("OTEL_BSP_SCHEDULE_DELAY") or str(EXPORT_EVERY_MS),
            **({} if os.environ.get("OTEL_TRACES_SAMPLER") else sampler),
        }


def _described(process: Process, ports: Mapping[str, int], health_ports: Mapping[str, int]) -> dict[str, str]:
    service, kind = labels(process)
    url = f"http://{HOST}:{ports[process.name]}"
    health_url = f"http://{HOST}:{health_ports.get(process.name, ports[process.name])}"
    return {"name": process.name, "service": service, "kind": kind, "url": url, "health_url": health_url}
