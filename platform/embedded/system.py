"""The processes of the system, as data: the one list that `make demo`, `make up` and the tests of docker/ read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded.ports import HOST

ROOT = Path(__file__).resolve().parent.parent.parent


AWAIT_KAFKA = "await-kafka"
"""No management command: between two of them, the embedded broker has to be there."""


@dataclass(frozen=True)
class Process:
    """A long-lived process: `command` ends in what tells it its port, for which PORT stands."""

    name: str
    service: str
    command: tuple[str, ...]
    port_variable: str
    default_port: int
    environment: tuple[tuple[str, str], ...] = ()

    def argv(self, python: str, port: int) -> list[str]:
        """What to execute, with the interpreter of our environment."""
        program, *arguments = (part.replace("PORT", str(port)) for part in self.command)
        return [python, program, *arguments] if program == "manage.py" else [python, "-m", program, *arguments]

    def variables(self, port: int) -> dict[str, str]:
        """Its own environment, on top of its service's."""
        return {name: value.replace("PORT", str(port)) for name, value in self.environment}


@dataclass(frozen=True)
class Job:
    """Management commands that are run once before the processes of a service start; it needs one engine to begin."""

    service: str
    commands: tuple[str, ...]
    needs: str

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.service}-setup"

    @property
    def management(self) -> tuple[str, ...]:
        """The names of the management commands among them: what runs as a job of its own in containers."""
        return tuple(command.split()[0] for command in self.commands if command != AWAIT_KAFKA)

    def argv(self, python: str) -> list[str]:
        """What to execute."""
        return [python, "-P", "platform/embedded/commands.py", *self.commands]


def _gateway(port: int) -> Process:
    command = ("manage.py", "serve", "--host", HOST, "--port", "PORT")
    # Nobody here turns from one gateway to another: it need not wait for that before it ends.
    return Process("gateway", "gateway", command, "GATEWAY_PORT", port, (("GATEWAY_DRAIN_SECONDS", "0"),))


def _wsgi(service: str, port: int) -> Process:
    command = ("gunicorn", f"{service}.wsgi:application", "--config", "settings/gunicorn.py", "--bind", f"{HOST}:PORT")
    return Process(service, service, command, f"{service.upper()}_PORT", port)


def _worker(service: str, command: str, port: int) -> Process:
    environment = [("WORKER_PORT", "PORT")]
    if command == "consume":
        environment.append(("CONSUMER_ID", f"{service}-0"))
    variable = f"{service}_{command}_PORT".upper()
    return Process(f"{service}-{command}", service, ("manage.py", command), variable, port, tuple(environment))


PROCESSES = (
    _gateway(8000),
    _wsgi("users", 8001),
    _wsgi("orders", 8002),
    _wsgi("payments", 8003),
    _worker("users", "relay", 8011),
    _worker("orders", "relay", 8012),
    _worker("orders", "consume", 8022),
    _worker("payments", "consume", 8023),
)

MIGRATE = "migrate --no-input -v0"
TOPICS = "topics"

JOBS = (
    Job("users", (MIGRATE, AWAIT_KAFKA, TOPICS), needs="postgres"),
    Job("orders", (MIGRATE, AWAIT_KAFKA, TOPICS), needs="postgres"),
    Job("payments", (TOPICS,), needs="kafka"),
)

SERVICES = tuple(dict.fromkeys(process.service for process in PROCESSES))

# Which of the shared addresses each service is told: a service cannot reach what it does not know.
KNOWS = {
    "gateway": ("USERS_URL", "ORDERS_URL", "PAYMENTS_URL"),
    "users": ("USERS_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"),
    "orders": ("ORDERS_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"),
    "payments": ("KAFKA_BOOTSTRAP_SERVERS",),
}

# What a child may inherit from the terminal even in the demo, which is to be the same for everyone.
INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "OTEL_", "PAYMENT_")


def urls(ports: Mapping[str, int]) -> dict[str, str]:
    """`GATEWAY_URL` and its neighbours, from the ports of the processes by name."""
    return {f"{service.upper()}_URL": f"http://{HOST}:{ports[service]}" for service in SERVICES}


def environment(
    service: str, *, addresses: Mapping[str, str], secret_key: str, inherit_all: bool = False
) -> dict[str, str]:
    """All that a process of the service finds in its environment.

    `addresses` are those of the whole system; each service is given only its own. With `inherit_all` everything in our
    own environment is passed on, so that any setting can be tried out: `PAYMENT_SUCCESS_RATE=0 make up`.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in addresses and name != "PYTHONPATH" and (inherit_all or name.startswith(INHERITED))
    }
    return {
        **kept,
        **{name: addresses[name] for name in KNOWS[service]},
        "DJANGO_SETTINGS_MODULE": f"settings.{service}",
        "ENVIRONMENT": "development",
        "SECRET_KEY": secret_key,
        "PYTHONUNBUFFERED": "1",
    }
