"""Each session has the parameters that the service relies on (DATABASE_SESSION), whatever stands in between.

A direct connection brings them itself. Behind a pooler in transaction mode each transaction may be in another session, so
they are defaults of the role, set by `manage.py migrate`. Either way they are looked at when a connection is made.
"""

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

MILLISECONDS = "(extract(epoch FROM current_setting(%s)::interval) * 1000)::bigint::text"


class WrongSession(OperationalError):
    """A database session has other parameters than DATABASE_SESSION: a database that cannot be used as it is."""


class Pooled(ImproperlyConfigured):
    """A pooler stands between this process and PostgreSQL, where a session of its own is needed."""


def check(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Compare the session of a new connection with DATABASE_SESSION, in one statement.

    A receiver of `connection_created`. Raises WrongSession, and closes the connection, so that nobody uses it.
    """
    try:
        found = _found(connection)
    except Exception:
        connection.close()
        raise
    wrong = {name: value for name, value in found.items() if value != settings.DATABASE_SESSION[name]}
    if wrong:
        connection.close()
        raise WrongSession(_explain(wrong))


def _found(connection: BaseDatabaseWrapper) -> dict[str, str]:
    from psycopg import Cursor  # only where there is a database

    names = list(settings.DATABASE_SESSION)
    asked = ", ".join("current_setting(%s)" if name == "timezone" else MILLISECONDS for name in names)
    # psycopg's own cursor: this is neither a query of the request nor a span of its trace.
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        row = cursor.execute(f"SELECT {asked}".encode(), names).fetchone()
    assert row is not None
    return dict(zip(names, row, strict=True))


def _explain(wrong: dict[str, str]) -> str:
    differs = ", ".join(f"{name} is {value}, not {settings.DATABASE_SESSION[name]}" for name, value in wrong.items())
    if _is_pooled():
        hint = "run `manage.py migrate`, which sets them for the role, then RECONNECT in PgBouncer's console"
    else:
        hint = f"if it leads through a pooler, set {_variable(direct=True)} too"
    return f"sessions of {_variable()} have other parameters than this service needs ({differs}): {hint}"


def _is_pooled() -> bool:
    """Whether connections of this process lead through the pooler."""
    return "options" not in connections.settings[settings.SERVICE_DATABASE]["OPTIONS"]


def _variable(*, direct: bool | None = None) -> str:
    """The variable that holds the address of this process's connection, or that of a direct one."""
    if direct is None:
        direct = bool(settings.DATABASE_DIRECT) and not _is_pooled()
    return f"{settings.SERVICE_NAME}_DATABASE_{'DIRECT_' if direct else ''}URL".upper()


def check_at_start() -> None:
    """Make one connection and look at it, so that a wrong configuration ends the start.

    A database that is away is no reason to end: it is waited for, and looked at when it is there. Raises
    ImproperlyConfigured.
    """
    if settings.SERVICE_DATABASE is None:
        return
    connection = connections[settings.SERVICE_DATABASE]
    try:
        connection.ensure_connection()
    except WrongSession as error:
        raise ImproperlyConfigured(str(error)) from None
    except DatabaseError as error:
        if "unsupported startup parameter" in str(error):
            raise ImproperlyConfigured(
                f"{_variable()} leads through a pooler, which refuses the parameters of our sessions: set"
                f" {_variable(direct=True)} to the same database without it (docs/runbook.md, A pooler)"
            ) from None
    finally:
        connection.close()


def go_direct() -> None:
    """Have this process's connections go past the pooler, if there is one: for what needs a session of its own."""
    if settings.DATABASE_DIRECT:
        connections[settings.SERVICE_DATABASE].close()
        connections.settings[settings.SERVICE_DATABASE].update(settings.DATABASE_DIRECT)


def require_direct(connection: BaseDatabaseWrapper) -> None:
    """Make sure that PostgreSQL itself is at the other end: a pooler answers with the id of another process than it named.

    Raises Pooled.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (answering,) = cursor.fetchone()
    if answering != connection.connection.info.backend_pid:
        raise Pooled(
            f"{_variable()} leads through a pooler, where the relay would lose its lock: set {_variable(direct=True)} to the"
            " same database without it (docs/runbook.md, A pooler)"
        )


def set_role_defaults(connection: BaseDatabaseWrapper) -> None:
    """Make DATABASE_SESSION the defaults of our role in this database: every session that begins from now on has them."""
    from psycopg import sql  # only where there is a database

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        (database,) = cursor.fetchone()
        for name, value in settings.DATABASE_SESSION.items():
            cursor.execute(
                sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET {} = {}").format(
                    sql.Identifier(database), sql.Identifier(name), sql.Literal(value)
                )
            )
