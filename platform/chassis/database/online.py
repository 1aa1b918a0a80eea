"""Schema changes while the service runs: a lock that cannot be had soon is asked for again, and nobody queues behind it."""

import time
from typing import Any

from django.db import OperationalError, transaction
from django.db.migrations.operations import RunPython

LOCK_TIMEOUT = "500ms"
TRIES, PAUSE_SECONDS = 120, 0.5
LOCK_NOT_AVAILABLE = "55P03"


def briefly(schema_editor: Any, sql: str) -> None:
    """Run statements in one transaction that waits at most LOCK_TIMEOUT for each lock; up to TRIES times.

    A strong lock that waits holds up everybody who comes after it, for as long as the oldest transaction takes. Needs a
    migration with `atomic = False`. Raises OperationalError when a transaction is in the way for all that time.
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
    """`RunSQL` for statements that need a strong lock for a moment."""
    return RunPython(
        lambda _, schema_editor: briefly(schema_editor, sql),
        lambda _, schema_editor: briefly(schema_editor, reverse_sql),
    )
