"""The size of the outbox under load, with and without its own autovacuum settings.

    PYTHONPATH=platform .venv/bin/python -m bench.outbox

For each variant it fills a new table with a million sent rows. Then, for a minute, it runs the statements of requests,
relay and purge: rows are inserted, fetched, marked, and as many old ones deleted. Autovacuum runs every 5 s instead of
every minute, so that one minute shows the effect of twelve.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import psycopg

from bench.table import percentile
from chassis.outbox.retention import OUTBOX as PURGE
from chassis.outbox.rows import MARK, unsent
from embedded import cache
from embedded.postgres import PostgreSQL
from embedded.system import ROOT, environment

SENT_ROWS = 1_000_000
BATCH = 500
SECONDS = 60.0
BATCHES_PER_SECOND = 4.0
NAP_SECONDS = 5

VARIANTS = {
    "PostgreSQL's defaults": "",
    "vacuum every 5,000": "autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000",
    "vacuum every 5,000, also for inserts from 5 %": "autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000,"
    " autovacuum_vacuum_insert_scale_factor = 0.05",
    "vacuum every 2 %": "autovacuum_vacuum_scale_factor = 0.02",
    "vacuum every 5,000, fillfactor 70": "autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000,"
    " fillfactor = 70",
}
RESET = "autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_insert_scale_factor, fillfactor"

FILL = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id, created_at, sent_at)
SELECT gen_random_uuid(), 'user.created', n::text, %(payload)s, %(headers)s::jsonb, 'r', {at}, {sent}
FROM generate_series(1, %(count)s) AS n
"""
PAYLOAD = b"x" * 180
HEADERS = json.dumps({"ce_id": "x" * 36, "traceparent": "x" * 55, "ce_type": "x" * 12, "rest": "x" * 250})
OLD = "now() - interval '90 days' + n * interval '1 ms'"
UNSENT_ROWS = unsent(wait=True)
UNSENT_BOUNDS = {"floor": 0, "rows": 1000, "bytes": 8_000_000, "largest": 16_000_000}

SIZES = "SELECT pg_relation_size('outbox'), pg_indexes_size('outbox'), pg_relation_size('outbox_unsent')"
STATISTICS = """
SELECT n_dead_tup, autovacuum_count, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'outbox'
"""


@dataclass
class Result:
    """The measurements of a variant."""

    before: tuple[int, int, int]
    after: tuple[int, int, int]
    most_dead: int
    vacuums: int
    hot: float
    durations: list[float]
    """Seconds for each batch: inserting, fetching, marking, deleting old rows."""
    pages: int
    """Read at the end to find that no row is unsent."""


def measure(connection: psycopg.Connection, settings: str) -> Result:
    """Measure a minute of load on a table with these settings."""
    fill(connection, settings)
    before = connection.execute(SIZES).fetchone()
    connection.execute("SELECT pg_stat_reset_single_table_counters('outbox'::regclass)")
    durations, most_dead, after = [], 0, 0
    started = time.monotonic()
    while (now := time.monotonic()) - started < SECONDS:
        after = one_batch(connection, after)
        durations.append(time.monotonic() - now)
        if len(durations) % 10 == 0:
            most_dead = max(most_dead, statistic(connection)[0])
        time.sleep(max(0.0, started + len(durations) / BATCHES_PER_SECOND - time.monotonic()))
    time.sleep(2)
    dead, vacuums, updated, hot = statistic(connection)
    [plan] = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {UNSENT_ROWS}", UNSENT_BOUNDS).fetchone()[0]  # type: ignore[index]
    pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    sizes = connection.execute(SIZES).fetchone()
    return Result(before, sizes, max(dead, most_dead), vacuums, hot / max(1, updated), durations, pages)  # type: ignore[arg-type]


def fill(connection: psycopg.Connection, settings: str) -> None:
    """Fill the table as in normal operation: every row is sent, and vacuum has run."""
    connection.execute("TRUNCATE outbox RESTART IDENTITY")
    connection.execute(f"ALTER TABLE outbox RESET ({RESET})")
    if settings:
        connection.execute(f"ALTER TABLE outbox SET ({settings})")
    insert(connection, SENT_ROWS, at=OLD, sent=OLD)
    connection.execute("VACUUM (ANALYZE) outbox")
    connection.execute("CHECKPOINT")


def insert(connection: psycopg.Connection, count: int, *, at: str = "now()", sent: str = "NULL") -> None:
    """Insert rows of a typical size."""
    connection.execute(FILL.format(at=at, sent=sent), {"payload": PAYLOAD, "headers": HEADERS, "count": count})


def one_batch(connection: psycopg.Connection, after: int) -> int:
    """Run all statements for one batch of events. Returns the position up to which the purge has run."""
    insert(connection, BATCH)
    rows = connection.execute(UNSENT_ROWS, UNSENT_BOUNDS).fetchall()
    connection.execute(MARK, [[row[0] for row in rows]])
    values = {"after": after, "before": "now", "batch": BATCH}
    _, ended, _ = connection.execute(PURGE, values).fetchone()  # type: ignore[misc]
    return int(ended)


def statistic(connection: psycopg.Connection) -> tuple[int, int, int, int]:
    """The numbers of dead rows, vacuums, updates, and HOT updates."""
    connection.execute("SELECT pg_stat_clear_snapshot()")
    return connection.execute(STATISTICS).fetchone()  # type: ignore[return-value]


def report(name: str, result: Result) -> str:
    """One row of the table."""

    def size(pair: tuple[int, int, int]) -> str:
        table, indexes, unsent = (number / 1024 / 1024 for number in pair)
        return f"{table:.0f} + {indexes:.0f} ({unsent:.1f})"

    middle, slow = statistics.median(result.durations) * 1000, percentile(result.durations, 99) * 1000
    return (
        f"| {name} | {size(result.before)} | {size(result.after)} | {result.most_dead:,} | {result.vacuums} |"
        f" {result.hot:.0%} | {result.pages:,} | {middle:.0f} / {slow:.0f} |"
    )


HEAD = """\
| settings | MiB before: table + indexes (`outbox_unsent`) | after | most dead rows | vacuums | HOT updates \
| pages to find nothing unsent | a batch, ms p50 / p99 |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Measure each variant and print the table."""
    with cache.temporary_folder("bench-outbox") as folder, PostgreSQL(folder) as server:
        addresses = {"USERS_DATABASE_URL": server.url("userdb"), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        variables = environment("users", addresses=addresses, secret_key="x" * 50)
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=variables, check=True)
        with psycopg.connect(server.url("userdb", "postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET autovacuum_naptime = '{NAP_SECONDS}s'".encode())
            connection.execute("SELECT pg_reload_conf()")
            print(HEAD, flush=True)
            for name, settings in VARIANTS.items():
                print(report(name, measure(connection, settings)), flush=True)


if __name__ == "__main__":
    main()
