"""Reading outbox and inbox for staff without burdening the service: in one short transaction, with a time limit."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.db import OperationalError, connections, transaction
from django.http import Http404

from chassis.database.failures import is_statement_timeout
from chassis.http.errors import Unavailable

LIMIT = "SET LOCAL statement_timeout = '5s'"
BY_INDEX = "SET LOCAL enable_seqscan = off"
"""With statistics from another time, the planner would read the whole table."""


class TooSlow(Unavailable):
    """The table was not searched to the end in time."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = "The search took longer than 5 s: narrow it, by an event id or a state."


@contextmanager
def reading() -> Iterator[Any]:
    """A cursor for the body. Raises Http404 in a service without a database, and TooSlow."""
    if settings.SERVICE_DATABASE is None:
        raise Http404
    connection = connections[settings.SERVICE_DATABASE]
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(LIMIT)
            cursor.execute(BY_INDEX)
            yield cursor
    except OperationalError as error:
        if is_statement_timeout(error):
            raise TooSlow from None
        raise


def estimated_rows(cursor: Any, table: str) -> int:
    """The number of rows of a table, as PostgreSQL estimates it; 0 if it has not been analyzed yet."""
    cursor.execute("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::regclass", [table])
    (number,) = cursor.fetchone()
    return int(number)
