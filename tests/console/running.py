"""Runs a console as a person does: `manage.py console`, on a free port."""

import http.client
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.sources.processes import declared
from embedded import ports
from embedded.processes import Child, drive

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "a token for tests, 0123456789"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RunningConsole:
    port: int
    child: Child
    logs: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKEN}"}

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """A request exactly with these headers; `_` in a name is `-`."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """A request with the token."""
        return self.ask(path, **self.authorization, **headers)

    def export(self, body: bytes, **headers: str) -> Answer:
        """Send spans as a process does."""
        kind = {"Content_Type": "application/x-protobuf"}
        return self.ask("/v1/traces", "POST", body, **{**self.authorization, **kind, **headers})

    def exporting(self) -> dict[str, str]:
        """The environment with which a process sends its spans here."""
        return {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {TOKEN}".replace(" ", "%20").replace(",", "%2C"),
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }


def processes_at(port: int) -> str:
    """The declared processes, all of them at this port, for CONSOLE_PROCESSES."""
    url = f"http://127.0.0.1:{port}"
    found = [{"name": one.name, "service": one.service, "kind": one.kind, "url": url} for one in declared()]
    return json.dumps(found)


@contextmanager
def running(**environment: str) -> Iterator[RunningConsole]:
    """A console with empty log files, and without services: at the usual ports there may be some of `make up`."""
    port, closed = ports.free(2)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        variables = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "settings.console",
            "ENVIRONMENT": "development",
            "CONSOLE_TOKEN": TOKEN,
            "CONSOLE_PORT": str(port),
            "CONSOLE_LOGS": str(logs),
            "CONSOLE_PROCESSES": processes_at(closed),
            **environment,
        }
        argv = [sys.executable, "manage.py", "console"]
        child = Child(argv, log=Path(folder) / "log", name="console", cwd=ROOT, env=variables)
        console = RunningConsole(port, child, logs)
        try:
            drive(child.until(lambda: _is_up(console), within=60))
            yield console
        finally:
            child.stop()


def _is_up(console: RunningConsole) -> bool:
    try:
        return console.ask("/health/ready").status == 200
    except OSError:
        return False
