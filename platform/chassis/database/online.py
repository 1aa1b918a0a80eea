"""Online schema changes: locks are requested with a timeout and retried, so that no other transaction queues behind them."""

import time
from typing import Any

from django.db import OperationalError, transaction
from django.db.migrations.operations import RunPython

LOCK_TIMEOUT = "500ms"
TRIES, PAUSE_SECONDS = 120, 0.5
LOCK_NOT_AVAILABLE = "55P03"


def briefly(schema_editor: Any, sql: str) -> None:
    """Run statements in one transaction that waits at most LOCK_TIMEOUT for each lock; retry up to TRIES times.

    A waiting strong lock blocks all later transactions, for as long as the oldest transaction runs. Requires a migration with
    `atomic = False`. Raises OperationalError if every attempt times out.
    """
    connection = schema_editor.connection
    for left in reversed(range(TRIES)):
        try:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                cursor.execute(sql)
        except OperationalError as error:
            if not left or getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return


def run_briefly(sql: str, reverse_sql: str) -> RunPython:
    """`RunSQL` for statements that need a strong lock briefly."""
    return RunPython(
        lambda _, schema_editor: briefly(schema_editor, sql),
        lambda _, schema_editor: briefly(schema_editor, reverse_sql),
    )
