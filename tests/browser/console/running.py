"""A whole system with the console, as `make up` runs it, whose processes tests can start with other settings, stop and kill."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from embedded import ports
from embedded.console import CONSOLE, Console
from embedded.engines import Engines
from embedded.processes import Child, drive
from embedded.runner import get
from embedded.system import environment
from tests.acceptance.fixtures import prepared
from tests.acceptance.harness import READY_WITHIN, SECRET_KEY, Harness

OBEYED = {"OTEL_TRACES_SAMPLER": "parentbased_always_on"}
"""Every request of a test is recorded, however many there are."""


class WithConsole(Harness):
    """The system and its console. `kill_console` and `start_console` end it and start another one at the same address."""

    def __init__(self, engines: Engines, folder: Path, **console: str) -> None:
        [port] = ports.free(1)
        self.console = Console(port, secrets.token_urlsafe(24), secrets.token_urlsafe(48), folder)
        super().__init__(engines, folder, **self.console.variables_of_services() | OBEYED)
        self._changes = console
        self.console_child: Child | None = None

    def start_console(self) -> None:
        """Start the console, and wait until it responds."""
        health_ports = {one.name: one.metrics_port for one in self.members.values() if one.process.health_variable}
        variables = {
            **environment("console", addresses=self._addresses, secret_key=SECRET_KEY),
            **CONSOLE.variables(self.console.port),
            **self.console.variables(self._ports, health_ports),
            **self._changes,
        }
        self.console_child = self._child("console", CONSOLE.argv(sys.executable, self.console.port), variables)
        drive(self.console_child.until(lambda: get(self.console.port, "/health/live")[0] == 200, within=READY_WITHIN))

    def kill_console(self) -> None:
        """Kill the console."""
        if self.console_child is not None:
            self.console_child.kill9()

    def close(self) -> None:
        """Kill all that still runs."""
        self.kill_console()
        super().close()


@contextmanager
def running(config: pytest.Config, name: str, **console: str) -> Iterator[Any]:
    """A running and ready system with its console; `console` are additional variables of the console."""

    def make(engines: Engines, folder: Path) -> WithConsole:
        return WithConsole(engines, folder, **console)

    with prepared(config, name, kind=make) as system:
        system.restore()
        system.start_console()
        yield system
