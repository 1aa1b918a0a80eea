"""The processes of the system on real engines, which tests can start, stop, kill and suspend."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from embedded import ports
from embedded.engines import Engines
from embedded.forks.child import Forked
from embedded.processes import Child, Steps, drive
from embedded.runner import get
from embedded.system import JOBS, MONITOR, PROCESSES, ROOT, Process, environment, urls
from tests.forks.completed import completed
from tests.json_lines import JsonLines

READY_WITHIN = 120.0
GRACE_SECONDS = 30.0
"""How long a process may take to exit after SIGTERM, as in compose, Kubernetes and the runbook."""

SABOTAGE = ROOT / "tests" / "chaos" / "sabotage.py"
SECRET_KEY = "acceptance-" + "x" * 50
ALWAYS = {"LOG_FORMAT": "json", "OTEL_TRACES_EXPORTER": "console"}
KNOWN = {process.name: process for process in PROCESSES}
"""The processes that `restore` starts."""


@dataclass
class Member:
    """A process of the system, such as `orders-consume`, or its second replica `orders-consume-1`."""

    name: str
    process: Process
    child: Child
    port: int
    changes: Mapping[str, str]
    metrics_port: int
    """Where it serves health checks and metrics, even if all of its threads are busy."""

    def __post_init__(self) -> None:
        self._lines = JsonLines(self.child.log)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def alive(self) -> bool:
        return self.child.alive

    def handles(self, signum: int) -> bool:
        """Whether it currently has a handler for this signal."""
        return bool(int(self._status("SigCgt"), 16) >> (signum - 1) & 1)

    def is_frozen(self) -> bool:
        """Whether it is suspended by SIGSTOP."""
        return self._status("State") == "T"

    def _status(self, name: str) -> str:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))

    def cpu_seconds(self) -> float:
        """The CPU time that it has used."""
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def kill9(self) -> None:
        """Kill it and its children, like a power failure."""
        self.child.kill9()

    def terminate(self) -> None:
        """Send SIGTERM; `ended` waits for the exit."""
        self.child.popen.terminate()

    def ended(self, within: float = GRACE_SECONDS) -> int:
        """Wait for its exit, and return its status. Raises AssertionError after `within` seconds."""
        try:
            return self.child.popen.wait(within)
        except subprocess.TimeoutExpired:
            self.child.kill9()
            raise AssertionError(f"{self.name} did not exit within {within:g} s after SIGTERM") from None

    def ready(self) -> bool:
        return get(self.port, "/health/ready")[0] == 200

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Status and content of `/health/ready`."""
        status, body = get(self.port, "/health/ready")
        return status, json.loads(body) if status else {}

    def metrics(self) -> str:
        """Its metrics, as they are scraped."""
        status, body = get(self.port, "/metrics")
        assert status == 200, f"{self.name} returned no metrics"
        return body

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        found = [line.rpartition(" ") for line in self.metrics().splitlines() if not line.startswith("#")]
        return sum(float(value) for label, _, value in found if label.partition("{")[0] == name)

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric by its labels, in the order of their names."""
        status, body = get(self.port, "/metrics")
        assert status == 200, f"{self.name} returned no metrics"
        return {
            tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == name
        }

    def written(self) -> list[dict[str, Any]]:
        """Every JSON line of its output: log lines have `event`, spans have `context`."""
        return self._lines.read()

    def logged(self, event: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Its log lines, optionally only those of an event or with given fields."""
        expected = fields | ({"event": event} if event else {})
        return [line for line in self.written() if "event" in line and expected.items() <= line.items()]

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace that it has exported."""
        return [line for line in self.written() if line.get("context", {}).get("trace_id") == f"0x{trace_id}"]


class Harness:
    """The system. Processes have their names in `embedded.system`, replicas these names with a number.

    `everywhere` are environment variables of every process and command.
    """

    def __init__(self, engines: Engines, folder: Path, **everywhere: str) -> None:
        self._everywhere = everywhere
        self.engines = engines
        self.members: dict[str, Member] = {}
        self.folder = folder
        self._ports = dict(zip(KNOWN, ports.free(len(KNOWN)), strict=True))
        self._health_ports: dict[str, int] = {}
        self._addresses = {**urls(self._ports), **engines.environment()}
        self._connections: dict[str, psycopg.Connection[Any]] = {}
        self.client = httpx2.Client(base_url=self._addresses["GATEWAY_URL"], timeout=60, trust_env=False)

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    @property
    def gateway_url(self) -> str:
        return self._addresses["GATEWAY_URL"]

    @property
    def addresses(self) -> Mapping[str, str]:
        """The addresses of all services and engines, as in var/dev.env."""
        return self._addresses

    @property
    def logs(self) -> Path:
        """The folder with a log file per process."""
        return self.folder

    def url(self, name: str) -> str:
        """The URL of a process, also before it is started; its port does not change."""
        if name not in self._ports:
            self._ports[name] = ports.free(1)[0]
        return f"http://{ports.HOST}:{self._ports[name]}"

    def _health_port(self, name: str) -> int:
        if name not in self._health_ports:
            [self._health_ports[name]] = ports.free(1)
        return self._health_ports[name]

    def prepare(self) -> None:
        """Migrate the databases and create the topics."""
        drive(*(self._job(job.name, job.argv(sys.executable), job.service) for job in JOBS))

    def restore(self) -> None:
        """Run one ready instance of every process with default settings, and stop all others that tests have left."""
        unusual = [m for m in self.members.values() if m.name not in KNOWN or m.changes or not m.alive]
        self.end(member.name for member in unusual)
        self.start(*(name for name in KNOWN if name not in self.members))
        drive(*(m.child.until(m.ready, within=READY_WITHIN) for m in self.members.values()))

    def start(self, *names: str, fresh: bool = False, **changes: str) -> list[Member]:
        """Start these concurrently, and wait until each is ready; `changes` are additional environment variables.

        With `fresh` they share no memory with other processes.
        """
        started = [self.spawn(name, fresh=fresh, **changes) for name in names]
        drive(*(member.child.until(member.ready, within=READY_WITHIN) for member in started))
        return started

    def spawn(self, name: str, *arguments: str, fault: str = "", fresh: bool = False, **changes: str) -> Member:
        """Start a process without waiting, after stopping one with the same name. `arguments` are appended to its usual ones.

        `fault` is a fault of `tests/chaos/sabotage.py` to inject. With `fresh` the interpreter starts as well, as in
        production; otherwise the process is a fork of one that has loaded the libraries.
        """
        self.end([name])
        process, replica = _replica(name)
        self.url(name)
        port = self._ports[name]
        # A separate port for health checks and metrics, as `make up` gives to web processes.
        health_port = self._health_port(name) if process.health_variable else None
        variables = self._environment(process.service) | process.variables(port, health_port)
        if "CONSUMER_ID" in variables:
            variables["CONSUMER_ID"] = f"{process.service}-{replica}"
        argv = [*process.argv(sys.executable, port), *arguments]
        if fault:
            argv[1:1] = [str(SABOTAGE), fault]
        child = self._child(name, argv, variables | changes, fresh=fresh)
        # `restore` stops processes that differ from the default.
        differences = changes | ({"arguments": " ".join([fault, *arguments])} if arguments or fault else {})
        self.members[name] = Member(name, process, child, port, differences, health_port or port)
        return self.members[name]

    def revive(self) -> list[str]:
        """Restart exited processes, like a supervisor (`make up`, compose, Kubernetes). Returns their names."""
        died = [member.name for member in self.members.values() if not member.alive]
        for name in died:
            self.spawn(name)
        return died

    def end(self, names: Iterable[str]) -> None:
        """Stop these processes, gracefully if possible, and remove them; names that are not running are ignored."""
        ending = [self.members.pop(name) for name in list(names) if name in self.members]
        for member in ending:
            if member.alive:
                member.child.resume()
                member.terminate()
        for member in ending:
            member.child.stop(grace=GRACE_SECONDS)

    def manage(self, service: str, *arguments: str, **changes: str) -> tuple[int, str]:
        """Run a management command of a service to its end. Returns its exit status and all that it wrote."""
        status, out, err = self.run(service, *arguments, **changes)
        return status, out + err

    def run(self, service: str, *arguments: str, **changes: str) -> tuple[int, str, str]:
        """Run a management command of a service to its end. Returns its exit status, output and errors."""
        variables = _without_console(self._environment(service)) | changes
        return completed([sys.executable, "manage.py", *arguments], cwd=ROOT, env=variables)

    def command(self, service: str, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """Start a management command of a service, and do not wait; `changes` are additional environment variables."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=_without_console(self._environment(service)) | changes, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def close(self) -> None:
        """Kill all that still runs; nobody needs the data."""
        self.client.close()
        for connection in self._connections.values():
            connection.close()
        for member in self.members.values():
            member.kill9()

    def database(self, name: str) -> psycopg.Connection[Any]:
        """A connection of the test's own, as the service's role, in autocommit mode."""
        return psycopg.connect(self.engines.postgres.url(name), autocommit=True)

    def rows(self, name: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query finds in a database. The connection is kept, since many queries are repeated until they find something."""
        known = self._connections.get(name)
        if known is not None:
            try:
                return known.execute(query.encode(), values).fetchall()
            except psycopg.OperationalError:
                if not known.closed:
                    raise
        self._connections[name] = self.database(name)
        return self._connections[name].execute(query.encode(), values).fetchall()

    def last_lines(self) -> Iterator[tuple[str, str]]:
        """The end of each process's log, without its spans."""
        for name, member in self.members.items():
            lines = member.child.log.read_text(errors="replace").splitlines()
            yield name, "\n".join([line for line in lines if not line.startswith('{"name": ')][-12:])

    def _job(self, name: str, argv: list[str], service: str) -> Steps:
        yield from self._child(name, argv, self._environment(service)).until_done(within=120)

    def _environment(self, service: str) -> dict[str, str]:
        return environment(service, addresses=self._addresses, secret_key=SECRET_KEY) | ALWAYS | self._everywhere

    def _child(self, name: str, argv: list[str], variables: Mapping[str, str], *, fresh: bool = False) -> Child:
        kind = Child if fresh or argv[0] != sys.executable else Forked
        return kind(argv, log=self.folder / f"{name}.log", name=name, cwd=ROOT, env=variables)


def _without_console(environment: dict[str, str]) -> dict[str, str]:
    """An environment in which a command does not print its spans between its own output."""
    exporter = environment["OTEL_TRACES_EXPORTER"]
    return environment | {"OTEL_TRACES_EXPORTER": "none" if exporter == "console" else exporter}


def _replica(name: str) -> tuple[Process, int]:
    if name in KNOWN:
        return KNOWN[name], 0
    if name == MONITOR.name:
        return MONITOR, 0
    base, _, number = name.rpartition("-")
    return KNOWN[base], int(number)
