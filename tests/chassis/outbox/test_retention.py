"""Purge deletes only old rows, in limited batches whose cost is independent of table size, without blocking writers."""

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from django.db import connections

from chassis.messaging.models import InboxEvent, OutboxEvent
from chassis.outbox import floor, gauges, retention, rows
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)

OUTBOX = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id, created_at, sent_at)
SELECT gen_random_uuid(), 't', n::text, 'x', '[]', 'r', {at}, {sent} FROM generate_series(1, {count}) AS n
"""
INBOX = """
INSERT INTO inbox (event_id, topic, key, request_id, consumed_at)
SELECT gen_random_uuid(), 't', n::text, 'r', {at} FROM generate_series(1, {count}) AS n
"""
KEYS = """
INSERT INTO idempotency_keys (key, fingerprint, created_at)
SELECT gen_random_uuid(), 'x', {at} FROM generate_series(1, {count}) AS n
"""
OLD, YOUNG = "now() - interval '90 days'", "now() - interval '1 minute'"
FILL = {"outbox": OUTBOX, "inbox": INBOX, "idempotency_keys": KEYS}


def execute(statement: str, *values) -> list[tuple]:
    with connections["users"].cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def fill(table: str, count: int, at: str, sent: str | None = None) -> None:
    execute(FILL[table].format(at=at, sent=sent or at, count=count))


def count(table: str) -> int:
    [(number,)] = execute(f"SELECT count(*) FROM {table}")
    return number


def expiry(table: str) -> retention.Expiry:
    return next(one for one in retention.expiries() if one.table == table)


@pytest.mark.parametrize("table", FILL)
class TestEveryTable:
    def test_old_rows_are_purged_and_recent_ones_stay(self, table, monkeypatch):
        monkeypatch.setattr(retention, "BATCH", 10)
        fill(table, 35, OLD)
        fill(table, 7, YOUNG)
        assert retention.purge(expiry(table)) == 35
        assert count(table) == 7
        assert retention.purge(expiry(table)) == 0

    def test_stops_between_batches(self, table, monkeypatch):
        monkeypatch.setattr(retention, "BATCH", 10)
        fill(table, 35, OLD)
        told = iter([False, False, True])
        assert retention.purge(expiry(table), stop=lambda: next(told)) == 20
        assert count(table) == 15

    def test_a_batch_costs_the_same_regardless_of_table_size(self, table):
        """Counted in pages: neither a batch nor a purge that finds nothing walks through the table."""
        fill(table, 2_000, OLD)
        fill(table, 60_000, YOUNG)
        execute(f"ANALYZE {table}")
        [(pages,)] = execute("SELECT pg_relation_size(%s) / 8192", table)
        batch = self.touched(table)
        retention.purge(expiry(table))
        self.touched(table)  # the first look after a delete marks the entries that lead to nothing
        nothing = self.touched(table)
        assert nothing < 150 < pages
        assert batch < 6 * retention.BATCH, "some pages of each index for a row; the table has 60,000"

    @staticmethod
    def touched(table: str) -> int:
        chosen = expiry(table)
        connection = connections["users"]
        connection.ensure_connection()
        [(before,)] = execute("SELECT now() - make_interval(secs => %s)", chosen.hours * 3600)
        values = {"after": chosen.begin, "before": before, "batch": retention.BATCH}
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {chosen.statement}", values)
            [(explained,)] = cursor.fetchall()
            cursor.execute("ROLLBACK")
        [found] = json.loads(explained) if isinstance(explained, str) else explained
        plan = found["Plan"]
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    def test_two_at_once_share_the_work(self, table):
        fill(table, 20_000, OLD)
        assert sum(together(lambda: retention.purge(expiry(table), pause=0), times=2)) == 20_000
        assert count(table) == 0


def together(work, *, times: int) -> list:
    """Do the same in several threads at once; returns what each returned."""
    results, start = [], threading.Barrier(times)

    def run() -> None:
        start.wait()
        try:
            results.append(work())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == times, "one of them failed"
    return results


def purge_process() -> subprocess.Popen[str]:
    """`manage.py purge` of users, on the database of this test."""
    at = connections["users"].settings_dict
    url = f"postgresql://{at['USER']}:{quote(at['PASSWORD'])}@{at['HOST']}:{at['PORT']}/{at['NAME']}"
    return subprocess.Popen(
        [sys.executable, "manage.py", "purge"],
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "settings.users", "USERS_DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def plan_of(statement: str, values) -> list[dict]:
    """The nodes of the plan that PostgreSQL makes for a statement."""
    with connections["users"].cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
        [(explained,)] = cursor.fetchall()
    [found] = json.loads(explained) if isinstance(explained, str) else explained
    nodes, rest = [], [found["Plan"]]
    while rest:
        node = rest.pop()
        nodes.append(node)
        rest += node.get("Plans", [])
    return nodes


@pytest.mark.parametrize("unsent", [0, 5_000])
def test_in_large_tables_every_statement_finds_its_rows_by_an_index(unsent):
    """What relay, purge and gauges ask again and again, with statistics of an everyday and of a busy moment."""
    for table in FILL:
        fill(table, 5_000, OLD)
        for _ in range(8):
            fill(table, 25_000, YOUNG)
    fill("outbox", unsent, YOUNG, sent="NULL")
    execute("ANALYZE outbox, inbox, idempotency_keys")
    bounds = {"floor": 0, "rows": 1_000, "bytes": 8_000_000, "largest": 16_000_000}
    statements = {
        "unsent": (rows.unsent(wait=True), bounds),
        "unsent, passing parked": (rows.unsent(wait=False), bounds),
        "mark": (rows.MARK, [list(range(1_000))]),
        "oldest": (gauges.OLDEST, None),
        "waiting": (gauges.WAITING, {"counted": 10_000}),
        "parked": (gauges.PARKED, {"counted": 10_000}),
        "floor": (floor.FIRST, {"floor": 0}),
        **{
            f"purge of {one.table}": (
                one.statement, {"after": one.begin, "before": "2026-01-01T00:00Z", "batch": retention.BATCH}
            )
            for one in retention.expiries()
        },
    }  # fmt: skip
    nodes = {name: plan_of(*asked) for name, asked in statements.items()}
    scans = {
        name: {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
        - {"outbox_floor"}  # of one row
        for name, found in nodes.items()
    }
    assert not any(scans.values()), scans
    indexes = {name: {node["Index Name"] for node in found if "Index Name" in node} for name, found in nodes.items()}
    assert (
        "outbox_unsent"
        in indexes["unsent"] & indexes["unsent, passing parked"] & indexes["oldest"] & indexes["waiting"]
    )
    assert indexes["purge of inbox"] == {"inbox_consumed_at"}


def test_vacuum_of_the_outbox_depends_on_rows_not_on_table_size():
    """What `bench/outbox.py` has measured to help, and nothing else."""
    [(options,)] = execute("SELECT reloptions FROM pg_class WHERE oid = 'outbox'::regclass")
    assert set(options) == {"autovacuum_vacuum_scale_factor=0.0", "autovacuum_vacuum_threshold=5000"}


class TestOutbox:
    def test_unsent_rows_are_never_purged(self, monkeypatch):
        monkeypatch.setattr(retention, "BATCH", 10)
        fill("outbox", 25, OLD, sent="NULL")
        fill("outbox", 25, OLD)
        OutboxEvent.objects.filter(position__in=OutboxEvent.objects.values("position")[:5]).update(
            parked_at="2020-01-01T00:00Z"
        )
        assert retention.purge(expiry("outbox")) == 25
        assert OutboxEvent.objects.filter(sent_at=None).count() == 25

    def test_rows_sent_late_stay_until_they_expire(self):
        fill("outbox", 5, OLD, sent=YOUNG)
        assert retention.purge(expiry("outbox")) == 0
        assert count("outbox") == 5

    def test_discarded_rows_are_purged(self):
        fill("outbox", 2, OLD, sent="NULL")
        OutboxEvent.objects.filter(key="1").update(parked_at="2020-01-01T00:00Z", discarded_at="2020-01-02T00:00Z")
        assert retention.purge(expiry("outbox")) == 1
        assert [row.key for row in OutboxEvent.objects.all()] == ["2"]


class TestWriters:
    """A writer that fails rather than wait for a lock never fails."""

    LOCK_TIMEOUT = "SET lock_timeout = '1ms'"

    @staticmethod
    def connect() -> psycopg.Connection:
        parts = connections["users"].get_connection_params()
        wanted = {key: value for key, value in parts.items() if key in {"host", "port", "user", "password", "dbname"}}
        return psycopg.connect(**wanted, autocommit=True)

    def write(self, connection: psycopg.Connection) -> None:
        """What a request, the relay and a consumer do."""
        with connection.transaction():
            connection.execute("INSERT INTO idempotency_keys (key, fingerprint) VALUES (gen_random_uuid(), 'x')")
            connection.execute(OUTBOX.format(at="now()", sent="NULL", count=10).encode())
        connection.execute("UPDATE outbox SET sent_at = clock_timestamp() WHERE sent_at IS NULL")
        with connection.transaction():
            connection.execute((INBOX.format(at="now()", count=10) + " ON CONFLICT DO NOTHING").encode())

    def test_are_not_blocked_by_two_purges(self):
        for table in FILL:
            fill(table, 20_000, OLD)
        purges, written = [purge_process() for _ in range(2)], 0
        with closing(self.connect()) as connection:
            connection.execute(self.LOCK_TIMEOUT)
            while any(process.poll() is None for process in purges):
                self.write(connection)  # raises LockNotAvailable if it has to wait
                written += 1
        said = [process.communicate() for process in purges]
        assert [process.returncode for process in purges] == [0, 0], said
        gone = [[int(number) for number in re.findall(r": (\d+) rows", out)] for out, _ in said]
        assert [one + other for one, other in zip(*gone, strict=True)] == [20_000] * 3, "each row once"
        assert written > 10, "they were never at it together"
        assert (count("outbox"), InboxEvent.objects.count()) == (written * 10, written * 10)

    def test_would_notice_a_purge_that_locks_what_they_write(self):
        """The check itself: a lock on a row that is written is seen."""
        fill("outbox", 5, YOUNG, sent="NULL")
        with closing(self.connect()) as purge, closing(self.connect()) as connection:
            purge.execute("BEGIN")
            purge.execute("SELECT 1 FROM outbox FOR UPDATE")
            connection.execute(self.LOCK_TIMEOUT)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                self.write(connection)


class TestHousekeeping:
    def test_the_active_relay_purges_by_itself(self, settings):
        from chassis.workers.housekeeping import housekeeping

        settings.PURGE_EVERY_SECONDS = 0.05
        fill("inbox", 50, OLD)
        fill("inbox", 5, YOUNG)
        asked: list[bool] = []
        with housekeeping(lambda: bool(asked.append(False))):
            eventually(lambda: len(asked) > 3)
        assert count("inbox") == 55, "another relay is the one that sends"
        with housekeeping(lambda: True):
            eventually(lambda: count("inbox") == 5)
            fill("inbox", 50, OLD)
            eventually(lambda: count("inbox") == 5)
        assert "housekeeping" not in {thread.name for thread in threading.enumerate()}

    def test_an_unavailable_database_does_not_stop_the_process(self, settings, monkeypatch):
        from django.db import OperationalError

        from chassis.workers import housekeeping

        failures = iter([OperationalError("the database system is shutting down")])
        purge = retention.purge

        def fail_once(*args, **more) -> int:
            if failure := next(failures, None):
                raise failure
            return purge(*args, **more)

        monkeypatch.setattr(retention, "purge", fail_once)
        settings.PURGE_EVERY_SECONDS = 0.05
        fill("inbox", 50, OLD)
        with housekeeping.housekeeping(lambda: True):
            eventually(lambda: count("inbox") == 0)
