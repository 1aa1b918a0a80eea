"""The cost of finding unsent rows after a million rows were sent that vacuum cannot remove.

    PYTHONPATH=platform .venv/bin/python -m bench.take

An old snapshot is open all the time, as in a `pg_dump`. Meanwhile rows are written and marked with the statements of the
relay, whose floor (`chassis/outbox/floor.py`) rises.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from embedded import cache
from embedded.postgres import PostgreSQL
from embedded.system import ROOT, environment

ROWS, CHUNK, TIMES = 1_000_000, 50_000, 25
FILL = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id)
SELECT gen_random_uuid(), 'user.created', n::text, decode(repeat('78', 180), 'hex'), '[]', 'r' FROM generate_series(1, %s) AS n
"""
UNLIMITED = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1 FROM outbox LIMIT 1"


def measure() -> str:
    """Return the table. Requires Django to be set up and the database to be migrated."""
    from django.db import connections

    from chassis.outbox.floor import Floor

    connection, dump = connections["users"], connections["users"].copy()
    floor = Floor()
    with dump.cursor() as old, connection.cursor() as cursor:
        cursor.execute(UNLIMITED)
        old.execute(UNLIMITED)
        old.execute(SNAPSHOT)
        before = {name: _time(query) for name, query in _queries(cursor, floor).items()}
        for written in range(0, ROWS, CHUNK):
            print(f"{written:,} rows sent", file=sys.stderr, flush=True)
            cursor.execute(FILL, [CHUNK])
            _send(cursor, floor)
        after = {name: _time(query) for name, query in _queries(cursor, floor).items()}
    lines = [f"| query under an open snapshot, ms | no row | {ROWS:,} sent rows | ratio |", "|---|---|---|---|"]
    for name, duration in before.items():
        lines.append(f"| {name} | {duration:.2f} | {after[name]:.2f} | {after[name] / duration:.1f} |")
    return "\n".join(lines)


def _queries(cursor: Any, floor: Any) -> dict[str, Callable[[], object]]:
    from chassis.health.checks import Outbox
    from chassis.outbox import gauges, rows

    class Sending:
        floor = 0

    Sending.floor = floor.position
    return {
        "take by the relay, empty": lambda: rows.take(cursor, floor.position),
        "the relay moves its floor": lambda: _rise(cursor, floor),
        "all gauges of the outbox": gauges.OutboxGauges(Sending()).measure,
        "readiness of a web process: the outbox": Outbox("users").run,
        "for comparison, a take from the front": lambda: rows.take(cursor, 0),
    }


def _send(cursor: Any, floor: Any) -> None:
    """Fetch and mark rows until none is left, as the relay does."""
    from chassis.outbox import rows

    while True:
        floor.rise(cursor)
        if not (found := rows.take(cursor, floor.position)):
            break
        rows.mark(cursor, found, late=False)
        floor.sent(len(found))
    _rise(cursor, floor)


def _rise(cursor: Any, floor: Any) -> None:
    floor.sent(ROWS)  # so that it is due
    floor.rise(cursor)


def _time(query: Callable[[], object]) -> float:
    """The median of some calls, in ms."""
    durations = []
    for _ in range(TIMES):
        started = time.perf_counter()
        query()
        durations.append((time.perf_counter() - started) * 1000)
    return statistics.median(durations)


def main() -> None:
    """Measure on a separate server, and print the table."""
    with cache.temporary_folder("bench-take") as folder, PostgreSQL(folder) as server:
        addresses = {"USERS_DATABASE_URL": server.url("userdb"), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        variables = environment("users", addresses=addresses, secret_key="x" * 50)
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=variables, check=True)
        os.environ.update(variables)
        import django

        django.setup()
        print(measure())


if __name__ == "__main__":
    main()
