"""A real PgBouncer in transaction mode between the processes and PostgreSQL, with few server connections for many clients."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from embedded import ports
from embedded.engines import Engines
from embedded.postgres import PostgreSQL
from embedded.processes import START_WITHIN, Child, drive
from tests.acceptance.harness import Harness

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
NOT_INSTALLED = "PgBouncer is not installed: apt-get install --no-install-recommends pgbouncer"

SERVERS = 3
"""Server connections per database."""

CONFIGURATION = """
[databases]
{databases}

[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = users.txt
admin_users = users
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 200
query_wait_timeout = 10
server_login_retry = 1
"""


class PgBouncer:
    """A PgBouncer in front of all databases of a server."""

    def __init__(self, server: PostgreSQL) -> None:
        self._server = server
        self.port = ports.free(1)[0]
        self._child: Child | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))

    def prepare(self) -> None:
        """Configure it for the server, which is running, and start it."""
        names = [database.name for database in self._server.databases]
        where = f"host={ports.HOST} port={self._server.port}"
        configuration = CONFIGURATION.format(
            databases="\n".join(f"{name} = {where} dbname={name}" for name in names),
            host=ports.HOST, port=self.port, servers=SERVERS,
        )  # fmt: skip
        (self._folder / "pgbouncer.ini").write_text(configuration)
        roles = [f'"{role}" "{password}"' for role, password in self._server.passwords.items()]
        (self._folder / "users.txt").write_text("\n".join(roles))
        if user := self._server.runs_as:
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, *user)
        self.start()

    def close(self) -> None:
        """Kill it and delete its files."""
        if self._child:
            self.kill9()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, also after `kill9`, and return when it listens."""
        assert PROGRAM, NOT_INSTALLED
        self._child = Child(
            [PROGRAM, "pgbouncer.ini"], name="pgbouncer", log=self._folder / "log", cwd=self._folder,
            user=self._server.runs_as,
        )  # fmt: skip
        drive(self._child.until(lambda: ports.listens(self.port), within=START_WITHIN))

    def kill9(self) -> None:
        """Kill it, with all its connections."""
        assert self._child
        self._child.kill9()

    def url(self, database: str) -> str:
        """The URL of a database through the pooler, with the role of its owner."""
        return self._server.url(database).replace(f":{self._server.port}/", f":{self.port}/")

    def console(self, command: str) -> list[dict[str, Any]]:
        """Run a command of its admin console, such as `SHOW SERVERS` or `RECONNECT`."""
        url = self.url("userdb").rpartition("/")[0] + "/pgbouncer"
        with psycopg.connect(
            url, autocommit=True, cursor_factory=psycopg.ClientCursor, row_factory=dict_row
        ) as connection:
            cursor = connection.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    def renew(self) -> None:
        """Reconnect all server connections, each when it has no transaction."""
        self.console("RECONNECT")


class PooledHarness(Harness):
    """The system, with web processes and consumers connecting through the pooler, and the others directly."""

    def __init__(self, engines: Engines, folder: Path) -> None:
        super().__init__(engines, folder)
        self.pooler = PgBouncer(engines.postgres)

    def prepare(self) -> None:
        self.pooler.prepare()
        super().prepare()

    def close(self) -> None:
        super().close()
        self.pooler.close()

    def _environment(self, service: str) -> dict[str, str]:
        usual = super()._environment(service)
        databases = {"users": "userdb", "orders": "orderdb"}
        if service not in databases:
            return usual
        name, prefix = databases[service], service.upper()
        return usual | {
            f"{prefix}_DATABASE_URL": self.pooler.url(name),
            f"{prefix}_DATABASE_DIRECT_URL": self.engines.postgres.url(name),
            "DATABASE_STATEMENT_TIMEOUT_SECONDS": "6",
        }
