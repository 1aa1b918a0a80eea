"""The backend that settings name as ENGINE. A process has one connection for each thread that uses the database."""

import threading
import time
import weakref
from typing import Any

from django_prometheus.db.backends.postgresql import base
from psycopg import Error
from psycopg.pq import TransactionStatus

from chassis.observability import metrics, sampling

_wrappers: "weakref.WeakSet[DatabaseWrapper]" = weakref.WeakSet()
_lock = threading.Lock()


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's connection of one thread; django-prometheus counts its statements."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with _lock:
            _wrappers.add(self)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect. Raises what psycopg raises."""
        started = time.perf_counter()
        try:
            connection = super().get_new_connection(conn_params)
        except Exception:
            metrics.DB_CONNECTION_ERRORS.inc()
            raise
        metrics.DB_CONNECTION_CREATE_SECONDS.observe(time.perf_counter() - started)
        return connection


def _sample() -> None:
    """Count the connections of all threads; costs the statements nothing."""
    with _lock:
        wrappers = list(_wrappers)
    # Other threads may open and close them meanwhile.
    states = [_state(connection) for wrapper in wrappers if (connection := wrapper.connection) is not None]
    for state in ("used", "idle"):
        metrics.DB_CONNECTIONS.labels(state).set(states.count(state))


def _state(connection: Any) -> str:
    if connection.closed:
        return "closed"
    try:
        return "idle" if connection.info.transaction_status == TransactionStatus.IDLE else "used"
    except Error:
        return "closed"


sampling.sample(_sample)
