"""Database sessions: each has the parameters that the service requires (DATABASE_SESSION), with or without a pooler.

A direct connection sets them at startup. Behind a pooler in transaction mode, each transaction may run in a different session,
so they are defaults of the role, which `manage.py migrate` sets. In both cases they are checked on each new connection.
"""

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

MILLISECONDS = "(extract(epoch FROM current_setting(%s)::interval) * 1000)::bigint::text"


class WrongSession(OperationalError):
    """A database session does not have the parameters in DATABASE_SESSION, so the database cannot be used."""


class Pooled(ImproperlyConfigured):
    """The connection leads through a pooler, although this process requires its own session."""


def check(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Compare the session of a new connection with DATABASE_SESSION, in one statement.

    A receiver of `connection_created`. Raises WrongSession, and closes the connection, so that it is not used.
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
    from psycopg import Cursor  # only in a service with a database

    names = list(settings.DATABASE_SESSION)
    asked = ", ".join("current_setting(%s)" if name == "timezone" else MILLISECONDS for name in names)
    # psycopg's own cursor, so that this is not counted or traced as a query of the request.
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
    return f"sessions of {_variable()} do not have the required parameters ({differs}): {hint}"


def _is_pooled() -> bool:
    """Whether connections of this process lead through the pooler."""
    return "options" not in connections.settings[settings.SERVICE_DATABASE]["OPTIONS"]


def _variable(*, direct: bool | None = None) -> str:
    """The name of the variable with the URL of this process's connection, or of a direct one."""
    if direct is None:
        direct = bool(settings.DATABASE_DIRECT) and not _is_pooled()
    return f"{settings.SERVICE_NAME}_DATABASE_{'DIRECT_' if direct else ''}URL".upper()


def check_at_start() -> None:
    """Check one connection at startup, so that the process does not start with an invalid configuration.

    If the database is down, the process starts and waits for it, and checks it on connecting. Raises ImproperlyConfigured.
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
                f"{_variable()} leads through a pooler, which rejects session parameters: set"
                f" {_variable(direct=True)} to the same database without it (docs/runbook.md, A pooler)"
            ) from None
    finally:
        connection.close()


def bypass_pooler() -> None:
    """Let this process's connections bypass the pooler, if there is one, since it requires its own session."""
    if settings.DATABASE_DIRECT:
        connections[settings.SERVICE_DATABASE].close()
        connections.settings[settings.SERVICE_DATABASE].update(settings.DATABASE_DIRECT)


def require_direct(connection: BaseDatabaseWrapper) -> None:
    """Check that the connection is direct: a pooler reports a different backend id on connecting than the session has.

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
    """Set DATABASE_SESSION as the defaults of the current role in this database, for all new sessions."""
    from psycopg import sql  # only in a service with a database

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        (database,) = cursor.fetchone()
        for name, value in settings.DATABASE_SESSION.items():
            cursor.execute(
                sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET {} = {}").format(
                    sql.Identifier(database), sql.Identifier(name), sql.Literal(value)
                )
            )
