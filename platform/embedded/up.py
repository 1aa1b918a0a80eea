"""`make up`: runs the system in the foreground until Ctrl-C, on fixed ports, with its data in var/."""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from embedded import control, left_over, ports, targets
from embedded.console import CONSOLE, Console
from embedded.display import BOLD, coloured, paint, say, stream
from embedded.engines import Engines
from embedded.errors import EmbeddedError
from embedded.kafka import Kafka
from embedded.keeping import keep_running
from embedded.local_system import LocalSystem
from embedded.log_files import LogFiles
from embedded.postgres import PostgreSQL
from embedded.runner import Show
from embedded.system import JOBS, PROCESSES, ROOT, Job, Process
from services import SERVICES, WITH_DATABASE

VAR = ROOT / "var"
DEV_ENV = VAR / "dev.env"
LOGS = VAR / "log"
ADMIN = "admin"
POSTGRES_PORT, KAFKA_PORT = 15432, 9092
ROLES = ("postgres", *(service.name for service in WITH_DATABASE))
NAMES = (*(process.name for process in PROCESSES), CONSOLE.name, "postgres", "kafka")
LONG_SECRETS = ("secret_key", "operator", "console")
NO_CONSOLE = "--no-console"


async def run(*options: str) -> int:
    """Run until cancelled, with `--no-console` without the console.

    Raises EmbeddedError if a port is taken or something does not become ready.
    """
    VAR.mkdir(exist_ok=True)
    display = stream(max(map(len, NAMES)))
    with _exclusive():
        files = LogFiles(LOGS)

        def show(name: str, line: str) -> None:
            files.write(name, line)
            display(name, line)

        _forget_addresses()  # left by a killed run
        if left_over.end_server(VAR / "postgres"):
            say(paint("• PostgreSQL of a run that was killed is stopped", BOLD))
        secret = _secrets()
        local = _local_system(secret, show, with_console=NO_CONSOLE not in options)
        logs = [asyncio.create_task(_follow(name, path, show)) for name, path in _engine_logs(local)]
        try:
            await local.start(_jobs())
            for service in WITH_DATABASE:
                admin_marker(service.name).touch()
            _write_dev_env(local, secret)
            targets.write({**local.ports, **local.health_ports})
            _print_addresses(local, secret)
            async with control.offered(local):
                await keep_running(local)
        except asyncio.CancelledError:
            say(paint("\nStopping: each process finishes its work in progress", BOLD))
        finally:
            _forget_addresses()
            await local.stop()
            for log in logs:
                log.cancel()
            files.close()
    say(paint("Stopped. The data is kept in var/ for the next `make up`.", BOLD))
    return 0


def port_of(variable: str, default: int) -> int:
    """A fixed port, or that of its variable. Raises EmbeddedError for an invalid number."""
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise EmbeddedError(f"{variable} must be a port number, not {text!r}")
    return int(text)


def health_port(process: Process, used: Collection[int]) -> int:
    """The port of its variable. Without one, the usual port or, if that is in use, any other. Raises EmbeddedError."""
    if os.environ.get(process.health_variable):
        return port_of(process.health_variable, 0)
    return _usual_or_free(process.default_health_port, used)


def console_port(used: Collection[int]) -> int:
    """The port of CONSOLE_PORT. Without it, the usual port or, if that is in use, any other. Raises EmbeddedError."""
    if os.environ.get(CONSOLE.port_variable):
        return port_of(CONSOLE.port_variable, 0)
    return _usual_or_free(CONSOLE.default_port, used)


def _usual_or_free(usual: int, used: Collection[int]) -> int:
    return usual if usual < 65536 and usual not in used and ports.is_free(usual) else ports.free(1)[0]


def _local_system(secret: dict[str, str], show: Show, *, with_console: bool) -> LocalSystem:
    numbers = {process.name: port_of(process.port_variable, process.default_port) for process in PROCESSES}
    postgres_port = port_of("POSTGRES_PORT", POSTGRES_PORT)
    kafka_port = port_of("KAFKA_PORT", KAFKA_PORT)
    ports.require_free(
        {
            **{process.name: (process.port_variable, numbers[process.name]) for process in PROCESSES},
            "PostgreSQL": ("POSTGRES_PORT", postgres_port),
            "Kafka": ("KAFKA_PORT", kafka_port),
        }
    )
    used = {*numbers.values(), postgres_port, kafka_port}
    health_ports = {process.name: health_port(process, used) for process in PROCESSES if process.health_variable}
    console = Console(
        console_port({*used, *health_ports.values()}), secret["console"], secret["operator"], LOGS, control.path_in(VAR)
    )
    passwords = {role: secret[role] for role in ROLES}
    return LocalSystem(
        Engines(
            PostgreSQL(VAR / "postgres", postgres_port, passwords=passwords), Kafka(VAR / "kafka", port=kafka_port)
        ),
        numbers,
        secret_key=secret["secret_key"],
        report=lambda what: say(paint(f"• {what}", BOLD)),
        show=show,
        inherit_all=True,
        health_ports=health_ports,
        console=console if with_console else None,
        extra={
            **({"FORCE_COLOR": "1"} if coloured() else {}),
            "DJANGO_SUPERUSER_USERNAME": ADMIN,
            "DJANGO_SUPERUSER_EMAIL": f"{ADMIN}@example.org",
            "DJANGO_SUPERUSER_PASSWORD": secret["admin"],
        },
    )


@contextmanager
def _exclusive() -> Iterator[None]:
    """Allow one run at a time in this folder, since two would write to the same data."""
    with (VAR / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedError(f"`make up` is already running in {ROOT}") from None
        yield


def _secrets() -> dict[str, str]:
    """Random passwords, created by the first start, kept for later ones, and readable by the owner alone."""
    path = VAR / "secrets.json"
    values = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in (*ROLES, "admin", *LONG_SECRETS) if name not in values]
    if missing:
        values |= {name: secrets.token_urlsafe(48 if name in LONG_SECRETS else 12) for name in missing}
        _write_private(path, json.dumps(values, indent=2) + "\n")
    return {str(name): str(value) for name, value in values.items()}


def _write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable by the owner alone."""
    staging = path.with_name(f".{path.name}.new")
    staging.unlink(missing_ok=True)
    staging.touch(mode=0o600, exist_ok=False)
    staging.write_text(text)
    staging.replace(path)


def _jobs() -> tuple[Job, ...]:
    """The system's jobs, which also create an admin login in each database that has none yet."""
    return tuple(
        replace(job, commands=(*job.commands, "createsuperuser --noinput"))
        if job.service in ROLES and not admin_marker(job.service).exists()
        else job
        for job in JOBS
    )


def admin_marker(service: str) -> Path:
    """The file whose existence says that the service's database in var/ exists and has an admin login."""
    # In the data folder, so that it is deleted with the data.
    return VAR / "postgres" / f"admin-of-{service}"


def _write_dev_env(local: LocalSystem, secret: dict[str, str]) -> None:
    """The addresses, for `set -a; . var/dev.env; set +a` and then any `manage.py … --settings=settings.SERVICE`."""
    console = {"CONSOLE_URL": local.console.url} if local.console else {}
    values = {**local.addresses, **console, "ENVIRONMENT": "development", "SECRET_KEY": secret["secret_key"]}
    _write_private(DEV_ENV, "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))


def _forget_addresses() -> None:
    """Delete the files with the addresses, which exist while the system runs."""
    DEV_ENV.unlink(missing_ok=True)
    targets.TARGETS.unlink(missing_ok=True)


def read_dev_env() -> dict[str, str]:
    """The addresses of the system that runs in this folder. Raises EmbeddedError if none does."""
    if not DEV_ENV.exists():
        raise EmbeddedError(
            f"`make up` is not running in {ROOT}: start it in another terminal, and wait until it is ready"
        )
    return dict(word.split("=", 1) for word in shlex.split(DEV_ENV.read_text()))


def _print_addresses(local: LocalSystem, secret: dict[str, str]) -> None:
    gateway = local.addresses["GATEWAY_URL"]
    apis = "  ".join(f"{gateway}/api/{service.route}" for service in SERVICES if service.route)
    rows = [
        *([("Console", local.console.url)] if local.console else []),
        ("API documentation", f"{gateway}/api/docs"),
        ("Browsable API", apis),
        *((f"Admin of {one.name}", f"{local.addresses[one.url_variable]}/admin/") for one in WITH_DATABASE),
        ("Admin login", f"{ADMIN}  {secret['admin']}"),
        *(
            (f"Metrics of {name}", f"http://{ports.HOST}:{port}/metrics")
            for name, port in {**local.ports, **local.health_ports}.items()
        ),
        ("Log files", "var/log/; one request: .venv/bin/python manage.py story ID"),
        ("Addresses", "var/dev.env, for a shell: set -a; . var/dev.env; set +a"),
    ]
    say()
    for what, where in rows:
        say(f"  {paint(f'{what:<27}', BOLD)} {where}")
    say("\n  Ctrl-C stops everything.\n")


def _engine_logs(local: LocalSystem) -> list[tuple[str, Path]]:
    kafka = [("kafka", node.folder / "log") for node in local.engines.kafka.members]
    return [("postgres", local.engines.postgres.folder / "log"), *kafka]


async def _follow(name: str, log: Path, show: Show) -> None:
    """Show the lines that are appended to a file from now on."""
    position = log.stat().st_size if log.exists() else 0
    while True:
        await asyncio.sleep(0.25)
        with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
            file.seek(position)
            lines = file.read().splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):
                    show(name, line.decode(errors="replace").rstrip())
                    position += len(line)
