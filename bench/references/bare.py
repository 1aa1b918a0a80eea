"""The least that answers a read of users: a WSGI function with psycopg and orjson, without checks, logs or metrics.

DATABASE_URL is the database of users. Only for `bench.service`.
"""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import psycopg
from psycopg.rows import dict_row

ONE = 'SELECT id, email, name, created_at AS "createdAt" FROM users WHERE id = %s'
LIST = 'SELECT id, email, name, created_at AS "createdAt" FROM users ORDER BY created_at DESC, id DESC LIMIT 21'

_thread = threading.local()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Respond to `/users/{id}` with the user, and to `/users` with the first 20."""
    user_id = environ["PATH_INFO"].removeprefix("/users").removeprefix("/")
    connection = _connection()
    if user_id:
        body = orjson.dumps(connection.execute(ONE, [user_id]).fetchone())
    else:
        rows = connection.execute(LIST).fetchall()
        body = orjson.dumps({"results": rows[:20], "next": None, "previous": None})
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _connection() -> psycopg.Connection[dict[str, Any]]:
    connection: psycopg.Connection[dict[str, Any]] | None = getattr(_thread, "connection", None)
    if connection is None:
        connection = _thread.connection = psycopg.connect(
            os.environ["DATABASE_URL"], autocommit=True, row_factory=dict_row, prepare_threshold=1
        )
    return connection
