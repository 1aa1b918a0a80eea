"""The cost of claiming a batch: the current inbox compared to its predecessor, whose key was the event id alone.

    PYTHONPATH=platform .venv/bin/python -m bench.inbox

One table of each kind with a million rows; batches of 500 new events and batches of 500 duplicates, alternately.
"""

import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from embedded import cache
from embedded.postgres import PostgreSQL
from embedded.system import ROOT, environment

ROWS, BATCH, ROUNDS = 1_000_000, 500, 100

PREVIOUS = """
CREATE TABLE inbox_previous (event_id text PRIMARY KEY, topic text NOT NULL, key text NOT NULL, request_id text NOT NULL,
                           consumed_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON inbox_previous (consumed_at);
"""
CLAIM_PREVIOUS = """
INSERT INTO inbox_previous (event_id, topic, key, request_id)
SELECT * FROM json_to_recordset(%s) AS new (event_id text, topic text, key text, request_id text)
ORDER BY event_id
ON CONFLICT (event_id) DO NOTHING
RETURNING event_id
"""
FILL = """
INSERT INTO {table} (event_id, topic, {source} key, request_id, consumed_at)
SELECT gen_random_uuid(), 'user.created', {value} n::text, 'r', now() - n * interval '1 ms' FROM generate_series(1, %s) AS n
"""


def measure() -> str:
    """Return the table. Requires Django to be set up and the database to be migrated."""
    from django.db import connections

    from chassis.consumer.inbox import CLAIM

    with connections["orders"].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(PREVIOUS)
        cursor.execute(FILL.format(table="inbox_previous", source="", value=""), [ROWS])
        cursor.execute(FILL.format(table="inbox", source="source,", value="'/users',"), [ROWS])
        cursor.execute("VACUUM (ANALYZE) inbox")
        cursor.execute("VACUUM (ANALYZE) inbox_previous")
        durations: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            rows = orjson.dumps([_event() for _ in range(BATCH)]).decode()
            both = [("current", CLAIM), ("by id alone", CLAIM_PREVIOUS)]
            for kind, claim in both if number % 2 else reversed(both):
                for what in ("new", "duplicates"):
                    durations.setdefault(f"{what}, {kind}", []).append(
                        _time(lambda c=claim, r=rows: cursor.execute(c, [r]))
                    )
    lines = [f"| {BATCH} events | current, ms | by id alone, ms | ratio (median of the rounds') |", "|---|---|---|---|"]
    for what in ("new", "duplicates"):
        ours, theirs = durations[f"{what}, current"], durations[f"{what}, by id alone"]
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        lines.append(f"| {what} | {statistics.median(ours):.1f} | {statistics.median(theirs):.1f} | {ratio:.2f} |")
    return "\n".join(lines)


def _event() -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()), "topic": "user.created", "source": "/users", "key": str(uuid.uuid4()),
        "request_id": str(uuid.uuid4()),
    }  # fmt: skip


def _time(query: Callable[[], object]) -> float:
    started = time.perf_counter()
    query()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Measure on a separate server, and print the table."""
    with cache.temporary_folder("bench-inbox") as folder, PostgreSQL(folder) as server:
        addresses = {"ORDERS_DATABASE_URL": server.url("orderdb"), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        variables = environment("orders", addresses=addresses, secret_key="x" * 50)
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=variables, check=True)
        os.environ.update(variables)
        import django

        django.setup()
        print(measure())


if __name__ == "__main__":
    main()
