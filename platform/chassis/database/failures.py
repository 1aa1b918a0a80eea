"""Whether a database error is about the database and not about what was asked of it: then it is worth asking again later."""

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connections

UNAVAILABLE = ("08", "28", "40", "53", "55", "57", "58")
"""SQLSTATE classes that say nothing about the statement: connection, credentials, serialization, resources, locks, operator,
system. https://www.postgresql.org/docs/current/errcodes-appendix.html"""

READ_ONLY = "25006"
"""The server takes no writes: a failover is under way, or its disk is being saved. Of class 25 this one only: the others
say that the program has lost track of its transaction."""

STATEMENT_TIMEOUT = "57014"
IDLE_TIMEOUT = "25P03"
LOCK_TIMEOUT = "55P03"


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's code for a Django database error; empty where the server gave none, as when it could not be reached."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def is_statement_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL ended a statement for its time: a slow database, or a statement that asks too much of it."""
    return isinstance(error, DatabaseError) and sqlstate(error) == STATEMENT_TIMEOUT


def is_idle_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL ended the session as its transaction was idle: the program did something else for too long."""
    return isinstance(error, DatabaseError) and sqlstate(error) == IDLE_TIMEOUT


def is_unavailable(error: BaseException) -> bool:
    """Whether the database cannot do now what it could do later; both timeouts included.

    The code decides, not the class of the exception: a value that is too large for an index is an OperationalError too.
    """
    if not isinstance(error, DatabaseError | InterfaceError):
        return False
    if code := sqlstate(error):
        return code.startswith(UNAVAILABLE) or code in {READ_ONLY, IDLE_TIMEOUT}
    return isinstance(error, OperationalError | InterfaceError)


def let_go() -> None:
    """Close this thread's connection, so that the next one is made to whatever server is the right one then.

    One that has become read-only in a failover still answers, and so looks healthy for ever.
    """
    connection = connections[settings.SERVICE_DATABASE]
    if not connection.in_atomic_block:
        connection.close()
