"""Migration 0008 on a filled table while consumers of the previous version run: none is blocked, and no id is lost."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from django.conf import settings

from chassis.consumer.inbox import CLAIM
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
ROWS = 300_000
FILL = """
INSERT INTO inbox (event_id, topic, key, request_id, consumed_at)
SELECT 'old-' || n, 'user.created', 'k', 'r', now() - interval '2 hours' FROM generate_series(1, %s) AS n
"""
CLAIM_BEFORE = """
INSERT INTO inbox (event_id, topic, key, request_id)
SELECT * FROM json_to_recordset(%s) AS new (event_id text, topic text, key text, request_id text)
ORDER BY event_id
ON CONFLICT (event_id) DO NOTHING
RETURNING event_id
"""
NAME = f"inbox_migration_{os.getpid()}"


class Database:
    """A database of its own, on the server of this run."""

    def __init__(self, name: str) -> None:
        at = settings.DATABASES["users"]
        self.name = name
        self.url = f"postgresql://{at['USER']}:{quote(at['PASSWORD'])}@{at['HOST']}:{at['PORT']}/{name}"

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)

    def manage(self, *arguments: str) -> str:
        environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings.users", "USERS_DATABASE_URL": self.url}
        command = [sys.executable, "-W", "ignore", "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def before():
    """A database as it was before this migration, to be copied."""
    found = Database(f"{NAME}_before")
    with Database("postgres").connect() as server:
        server.execute(f"CREATE DATABASE {found.name}")
        found.manage("migrate", "-v0")
        found.manage("migrate", "-v0", "messaging", "0007")
        yield found
        eventually(lambda: dropped(server, found.name))


def dropped(server: psycopg.Connection, name: str) -> bool:
    """Whether the database is gone; not while autovacuum, which is not ours to end, is in it."""
    try:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


@pytest.fixture
def database(before):
    found = Database(NAME)
    with Database("postgres").connect() as server:
        server.execute(f"CREATE DATABASE {found.name} TEMPLATE {before.name}")
        yield found
        eventually(lambda: dropped(server, found.name))


class OldConsumer:
    """Claims batches as the version before does, and never waits for a lock for longer than a second."""

    def __init__(self, database: Database, number: int) -> None:
        self.claimed: list[str] = []
        self.error: Exception | None = None
        self._database, self._number = database, number
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._database.connect() as connection:
                connection.execute("SET lock_timeout = '1s'")
                turn = 0
                while not self._ended.is_set():
                    turn += 1
                    new = {f"during-{self._number}-{turn}-{n}" for n in range(20)}
                    found = self.claim(connection, new | {f"old-{turn + n}" for n in range(5)})
                    assert found == new, "it takes for new what is known"
                    self.claimed += found
        except Exception as error:
            self.error = error

    @staticmethod
    def claim(connection, ids) -> set[str]:
        rows = [{"event_id": one, "topic": "user.created", "key": "k", "request_id": "r"} for one in ids]
        return {one for (one,) in connection.execute(CLAIM_BEFORE, [json.dumps(rows)])}

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        if self.error:
            raise self.error


def claim(connection, ids, source="/users", topic="user.created") -> set[str]:
    """As the consumer of today."""
    rows = [{"event_id": one, "topic": topic, "source": source, "key": "k", "request_id": "r"} for one in ids]
    return {one for one, *_ in connection.execute(CLAIM, [json.dumps(rows)])}


def test_online_on_a_filled_table(database):
    with database.connect() as connection:
        connection.execute(FILL, [ROWS])
        [(file,)] = connection.execute("SELECT pg_relation_filenode('inbox')").fetchall()
        consumers = [OldConsumer(database, number) for number in range(3)]
        database.manage("migrate", "-v0")
        after = [len(one.claimed) for one in consumers]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and any(
            len(one.claimed) < before + 200 and one.error is None for one, before in zip(consumers, after, strict=True)
        ):
            time.sleep(0.05)
        for one in consumers:
            one.end()
        assert all(len(one.claimed) >= before + 200 for one, before in zip(consumers, after, strict=True))
        assert connection.execute("SELECT pg_relation_filenode('inbox')").fetchall() == [(file,)], "it was rewritten"

        known = {
            "old-1",
            f"old-{ROWS}",
            *(one.claimed[0] for one in consumers),
            *(one.claimed[-1] for one in consumers),
        }
        assert claim(connection, {*known, "new-1"}) == {"new-1"}
        assert OldConsumer.claim(connection, {"new-1", "new-2"}) == {"new-2"}, "a rollback to the version before"

        assert "by source" not in database.manage("purge"), "consumers of the version before have just written"
        connection.execute("UPDATE django_migrations SET applied = applied - interval '2 hours'")
        connection.execute("UPDATE inbox SET consumed_at = consumed_at - interval '2 hours'")
        # While autovacuum is at the table, the key is left for the next purge.
        eventually(lambda: "by source" in database.manage("purge"), every=1)
        assert claim(connection, known) == set()
        assert (
            claim(connection, {"new-1"}, source="/elsewhere")
            == claim(connection, {"new-1"}, topic="other")
            == {"new-1"}
        )
        assert connection.execute("SELECT pg_relation_filenode('inbox')").fetchall() == [(file,)], "it was rewritten"


def test_an_invalid_index_is_recreated(database):
    """As after a migration that was killed while it made the index."""
    with database.connect() as connection:
        connection.execute(FILL, [10])
        connection.execute("ALTER TABLE inbox ADD COLUMN source text NOT NULL DEFAULT ''")
        connection.execute("CREATE UNIQUE INDEX inbox_identity ON inbox (event_id, topic, source)")
        with psycopg.connect(database.url, autocommit=True) as blocker, database.connect() as other:
            connection.execute("DROP INDEX inbox_identity")
            blocker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM inbox LIMIT 1")
            other.execute("SET statement_timeout = '1s'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                other.execute("CREATE UNIQUE INDEX CONCURRENTLY inbox_identity ON inbox (event_id, topic, source)")
        invalid = "SELECT count(*) FROM pg_index WHERE indrelid = 'inbox'::regclass AND NOT indisvalid"
        assert connection.execute(invalid).fetchone() == (1,)
        database.manage("migrate", "-v0")
        assert connection.execute(invalid).fetchone() == (0,)
        assert claim(connection, {"old-1", "new"}) == {"new"}


def test_it_waits_without_blocking_others(database):
    """A transaction that has read the table for long holds the migration up, and not the consumers behind it."""
    with database.connect() as reader, database.connect() as connection:
        connection.execute("SET lock_timeout = '2s'")
        reader.execute("BEGIN")
        reader.execute("SELECT 1 FROM inbox")
        migrating = threading.Thread(target=database.manage, args=("migrate", "-v0"))
        migrating.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE inbox%'"
        deadline = time.monotonic() + 60
        while connection.execute(waiting).fetchone() is None:
            assert time.monotonic() < deadline
        for n in range(50):
            assert OldConsumer.claim(connection, {f"meanwhile-{n}"})
        assert migrating.is_alive()
        reader.execute("COMMIT")
        migrating.join(60)
        assert not migrating.is_alive()
        assert claim(connection, {"meanwhile-1", "new"}) == {"new"}


def test_it_can_be_undone(database):
    database.manage("migrate", "-v0")
    with database.connect() as connection:
        assert claim(connection, {"1"})
        database.manage("migrate", "-v0", "messaging", "0007")
        assert OldConsumer.claim(connection, {"1", "2"}) == {"2"}
