"""Runs a service as in production: a process under gunicorn with its own database on the run's PostgreSQL."""

import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from embedded import ports
from embedded.forks.child import Forked
from embedded.processes import Child, drive
from services import WITH_DATABASE
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
DATABASES = {service.name: service.database_variable for service in WITH_DATABASE}


@contextmanager
def database(service: str) -> Iterator[dict[str, str]]:
    """A new, migrated database of a service. Yields the environment for its processes."""
    name = f"served_{service}_{os.getpid()}"
    with psycopg.connect(os.environ[DATABASES[service]], autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{_migrated(service)}"')  # type: ignore[call-overload]
        try:
            yield _environment(service, name)
        finally:
            eventually(lambda: _dropped(connection, name))


@cache
def _migrated(service: str) -> str:
    """The name of a migrated database, which this process creates once and the next ones are copies of."""
    name = f"migrated_{service}_{os.getpid()}"
    with psycopg.connect(os.environ[DATABASES[service]], autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
    run([sys.executable, "manage.py", "migrate", "-v0"], _environment(service, name))
    return name


def _environment(service: str, database: str) -> dict[str, str]:
    variable = DATABASES[service]
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": f"settings.{service}",
        "ENVIRONMENT": "development",
        variable: urlunsplit(urlsplit(os.environ[variable])._replace(path=f"/{database}")),
    }


def _dropped(connection: psycopg.Connection, name: str) -> bool:
    """Drop the database. Returns False while autovacuum uses it, which its owner cannot terminate."""
    try:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[call-overload]
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def run(argv: list[str], environment: dict[str, str]) -> None:
    """Run a command to completion."""
    with tempfile.TemporaryDirectory() as folder:
        drive(Forked(argv, log=Path(folder) / "log", name=argv[-1], cwd=ROOT, env=environment).until_done(within=60))


@dataclass
class Served:
    """A running service: its URL and its process."""

    url: str
    child: Child


@contextmanager
def gunicorn(
    service: str, environment: dict[str, str], host: str = "127.0.0.1", *, application: str = ""
) -> Iterator[Served]:
    """Run the service, or another WSGI application instead, on a free port."""
    application = application or f"{service}.wsgi"
    argv = [sys.executable, "-m", "gunicorn", application, "-c", "settings/gunicorn.py", "-b", f"{host}:{{port}}"]
    with _process(service, argv, f"/{service}", environment) as served:
        yield served


@contextmanager
def gateway(**urls: str) -> Iterator[Served]:
    """Run the gateway on a free port, in front of services at these URLs."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings.gateway",
        "ENVIRONMENT": "development",
        **{f"{service.upper()}_URL": url for service, url in urls.items()},
    }
    argv = [sys.executable, "manage.py", "serve", "--port", "{port}"]
    with _process("gateway", argv, "/health/live", environment) as served:
        yield served


@contextmanager
def _process(name: str, argv: list[str], path: str, environment: dict[str, str]) -> Iterator[Served]:
    [port] = ports.free(1)
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [part.format(port=port) for part in argv]
        child = Forked(command, log=Path(folder) / "log", name=name, cwd=ROOT, env=environment)
        try:
            drive(child.until(lambda: _responds(url + path), within=60))
            yield Served(url, child)
        finally:
            child.stop()


@contextmanager
def serving(service: str) -> Iterator[str]:
    """Run a service with a new database. Yields its URL."""
    with database(service) as environment, gunicorn(service, environment) as served:
        yield served.url


def _responds(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=60).close()
    except urllib.error.URLError:
        return False
    return True
