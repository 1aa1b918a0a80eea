"""Whether a database error is about the database and not about the statement, so that a later retry may succeed."""

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connections

UNAVAILABLE = ("08", "28", "40", "53", "55", "57", "58")
"""SQLSTATE classes that are not related to the statement: connection, credentials, serialization, resources, locks, operator
intervention, system errors. https://www.postgresql.org/docs/current/errcodes-appendix.html"""

READ_ONLY = "25006"
"""The server is read-only: a failover is in progress, or it is protected from a full disk. It is the only code of class 25 here;
the others are programming errors."""

STATEMENT_TIMEOUT = "57014"
IDLE_TIMEOUT = "25P03"
LOCK_TIMEOUT = "55P03"


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's code for a Django database error; empty if there is none, for example if the server was unreachable."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def is_statement_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL cancelled a statement because of `statement_timeout`: the database or the statement is slow."""
    return isinstance(error, DatabaseError) and sqlstate(error) == STATEMENT_TIMEOUT


def is_idle_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL terminated the session because its transaction was idle for too long."""
    return isinstance(error, DatabaseError) and sqlstate(error) == IDLE_TIMEOUT


def is_unavailable(error: BaseException) -> bool:
    """Whether a later retry may succeed; this includes both timeouts.

    The code is decisive, not the class of the exception: a value that is too large for an index is an OperationalError too.
    """
    if not isinstance(error, DatabaseError | InterfaceError):
        return False
    if code := sqlstate(error):
        return code.startswith(UNAVAILABLE) or code in {READ_ONLY, IDLE_TIMEOUT}
    return isinstance(error, OperationalError | InterfaceError)


def close_connection() -> None:
    """Close this thread's connection, so that the next one reaches the current primary.

    A connection to a server that became read-only in a failover still responds, and would be reused indefinitely.
    """
    connection = connections[settings.SERVICE_DATABASE]
    if not connection.in_atomic_block:
        connection.close()
