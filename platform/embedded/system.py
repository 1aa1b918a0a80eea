"""The processes of the system and their environment, derived from the declarations of the services."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import services
from embedded.ports import HOST
from services import Kind, Service

ROOT = Path(__file__).resolve().parent.parent.parent


HEALTH_OFFSET = 30
"""Offset from a service's port of the port for health checks and metrics alone."""

AWAIT_KAFKA = "await-kafka"
"""Not a management command: waits between two of them until the embedded broker listens."""


@dataclass(frozen=True)
class Process:
    """A long-lived process. PORT in its command and environment stands for its port."""

    name: str
    service: str
    command: tuple[str, ...]
    port_variable: str
    default_port: int
    environment: tuple[tuple[str, str], ...] = ()
    health_variable: str = ""
    """The variable with its second port, if it is a web process whose threads may all be busy."""
    default_health_port: int = 0

    def argv(self, python: str, port: int) -> list[str]:
        """The command line, with this Python interpreter. It says which service it is, for `ps`."""
        program, *arguments = (part.replace("PORT", str(port)) for part in self.command)
        if program != "manage.py":
            return [python, "-m", program, *arguments]
        return [python, program, *arguments, f"--settings=settings.{self.service}"]

    def variables(self, port: int, health_port: int | None = None) -> dict[str, str]:
        """The environment variables that it has in addition to those of its service."""
        health = {"WEB_HEALTH_PORT": str(health_port)} if health_port else {}
        return {name: value.replace("PORT", str(port)) for name, value in self.environment} | health


@dataclass(frozen=True)
class Job:
    """Management commands that run once before the processes of a service start. `needs` is the engine that it waits for."""

    service: str
    commands: tuple[str, ...]
    needs: str

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.service}-setup"

    @property
    def management(self) -> tuple[str, ...]:
        """The names of its management commands. In containers, each of them is a separate job."""
        return tuple(command.split()[0] for command in self.commands if command != AWAIT_KAFKA)

    def argv(self, python: str) -> list[str]:
        """The command line."""
        return [python, "-P", "platform/embedded/commands.py", *self.commands]


def _web(service: Service) -> Process:
    if service.edge:
        command: tuple[str, ...] = ("manage.py", "serve", "--host", HOST, "--port", "PORT")
        # There is no load balancer here, so the gateway need not drain before it stops.
        environment: tuple[tuple[str, str], ...] = (("GATEWAY_DRAIN_SECONDS", "0"),)
        health: tuple[str, int] = ("", 0)
    else:
        application = f"{service.name}.wsgi:application"
        command = ("gunicorn", application, "--config", "settings/gunicorn.py", "--bind", f"{HOST}:PORT")
        environment = ()
        health = (f"{service.name.upper()}_HEALTH_PORT", service.port + HEALTH_OFFSET)
    variable = f"{service.name.upper()}_PORT"
    return Process(service.name, service.name, command, variable, service.port, environment, *health)


def _worker(service: Service, command: Kind) -> Process:
    name = f"{service.name}-{command}"
    environment = [("WORKER_PORT", "PORT")]
    if command == "consume":
        environment.append(("CONSUMER_ID", f"{service.name}-0"))
    variable = f"{service.name}_{command}_PORT".upper()
    return Process(name, service.name, ("manage.py", command), variable, service.port_of(command), tuple(environment))


def processes(declared: tuple[Service, ...]) -> tuple[Process, ...]:
    """All long-lived processes of these services: web processes, then relays, then consumers."""
    return (
        *(_web(service) for service in declared),
        *(_worker(service, "relay") for service in declared if service.relay),
        *(_worker(service, "consume") for service in declared if service.consumer),
    )


MIGRATE = "migrate --no-input -v0"
TOPICS = "topics"

COMMANDS = {
    ("migrate",): (MIGRATE,),
    ("topics",): (TOPICS,),
    ("migrate", "topics"): (MIGRATE, AWAIT_KAFKA, TOPICS),
}
"""The commands for each combination of jobs."""


def jobs(declared: tuple[Service, ...]) -> tuple[Job, ...]:
    """The jobs that run once before the processes of these services start."""
    return tuple(
        Job(service.name, COMMANDS[service.jobs], needs="postgres" if service.database else "kafka")
        for service in declared
        if service.jobs
    )


def known_addresses(service: Service, declared: tuple[Service, ...]) -> tuple[str, ...]:
    """The variables with addresses that a service is given. It cannot access anything else."""
    return (
        *(other.url_variable for other in declared if service.edge and not other.edge),
        *((service.database_variable,) if service.database else ()),
        *(("KAFKA_BOOTSTRAP_SERVERS",) if service.uses_kafka else ()),
    )


PROCESSES = processes(services.SERVICES)

MONITOR = Process("monitor", "monitor", ("manage.py", "monitor"), "MONITOR_PORT", 8099, (("WORKER_PORT", "PORT"),))
"""The monitor of the system, which belongs to no service. `make observe` starts it, next to `make up`."""

JOBS = jobs(services.SERVICES)
SERVICE_NAMES = tuple(service.name for service in services.SERVICES)
KNOWN_ADDRESSES: dict[str, tuple[str, ...]] = {
    **{service.name: known_addresses(service, services.SERVICES) for service in services.SERVICES},
    MONITOR.service: ("KAFKA_BOOTSTRAP_SERVERS",),
    "console": ("KAFKA_BOOTSTRAP_SERVERS",),
}

# The variables that processes inherit even in the demo, which should not depend on the terminal.
INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "OTEL_",
    *(setting.name for service in services.SERVICES for setting in service.settings),
)


def urls(ports: Mapping[str, int]) -> dict[str, str]:
    """`GATEWAY_URL` and the URLs of the other services, from the ports of their processes."""
    return {f"{service.upper()}_URL": f"http://{HOST}:{ports[service]}" for service in SERVICE_NAMES}


def environment(
    service: str, *, addresses: Mapping[str, str], secret_key: str, inherit_all: bool = False
) -> dict[str, str]:
    """The complete environment of the processes of a service.

    `addresses` are those of the whole system; each service is given only those that it needs. With `inherit_all` the
    environment of this process is passed on, so that any setting can be tried out: `PAYMENT_SUCCESS_RATE=0 make up`.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in addresses and name != "PYTHONPATH" and (inherit_all or name.startswith(INHERITED))
    }
    return {
        **kept,
        **{name: addresses[name] for name in KNOWN_ADDRESSES[service]},
        "DJANGO_SETTINGS_MODULE": f"settings.{service}",
        "ENVIRONMENT": "development",
        "SECRET_KEY": secret_key,
        "PYTHONUNBUFFERED": "1",
    }
