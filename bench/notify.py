"""The cost of waking the relay for the publishers of a PostgreSQL server, and the wake-up latency of the relay.

    PYTHONPATH=platform .venv/bin/python -m bench.notify

Each round measures three kinds of trigger: none (the relay finds rows by polling), one that notifies in every commit, and
that of the services, which notifies only while the relay sleeps. pgbench publishes. For each database, a process runs the
database part of the relay: fetch, mark, sleep. There is no broker, which would need the same two cores.
"""

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files

import psycopg

from bench.table import each, percentile, ratio
from embedded import cache
from embedded.postgres import PACKAGE, PostgreSQL
from embedded.system import ROOT, environment

CONNECTIONS, SECONDS, ROUNDS = 16, 5, 5
EVENTS = 40
"""Published one after another in each round, to an otherwise idle relay."""
DATABASES = {"users": "userdb", "orders": "orderdb"}

SCRIPT = """\\set key random(1, 1000000)
BEGIN;
INSERT INTO bench_state (body) VALUES (repeat('x', 200));
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id)
VALUES (gen_random_uuid(), 'user.created', :key, decode(repeat('78', 180), 'hex'), '[]', 'r');
COMMIT;
"""
WAKE = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id)
VALUES (gen_random_uuid(), 'wake', %s, NULL, '[]', 'r')
"""
_trigger = importlib.import_module("chassis.messaging.migrations.0011_notify_condition")
NONE, ALWAYS, SLEEPING = "none", "NOTIFY in every commit", "NOTIFY while the relay sleeps"
TRIGGERS = {
    NONE: "ALTER TABLE outbox DISABLE TRIGGER outbox_notify",
    ALWAYS: f"ALTER TABLE outbox ENABLE TRIGGER outbox_notify; {_trigger.ALWAYS}",
    SLEEPING: f"ALTER TABLE outbox ENABLE TRIGGER outbox_notify; {_trigger.WHO_SLEEPS}",
}

HEAD = (
    "| trigger | commits/s, {} connections, one database | ratio to none | two databases | ratio to none"
    " | an idle relay has the row, ms p50 / p99 |"
)


def relay() -> None:
    """Run the database part of a relay until killed. Prints the latency of each event of the topic `wake`, in ms."""
    import django
    from django.conf import settings
    from django.db import connections

    django.setup()
    from chassis.outbox.floor import Floor
    from chassis.outbox.rows import mark, take
    from chassis.outbox.wakeup import Gathering, Wakeup

    connection = connections[settings.SERVICE_DATABASE]
    wakeup, floor, gathering = Wakeup(connection), Floor(), Gathering()
    wakeup.begin()
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")  # as the session of a relay
    print("ready", flush=True)
    while True:
        time.sleep(gathering.seconds())
        with connection.cursor() as cursor:
            floor.rise(cursor)
            rows, now = take(cursor, floor.position), time.monotonic()
            gathering.searched(len(rows), all_taken=len(rows) < settings.OUTBOX_BATCH_SIZE)
            if rows:
                wakeup.awake()
                for row in rows:
                    if row.topic == "wake":
                        print((now - float(row.key)) * 1000, flush=True)
                mark(cursor, rows, late=False)
                floor.sent(len(rows))
                continue
        wakeup.sleep(1.0)


class Bench:
    """A server with the tables of both services, and one relay per service."""

    def __init__(self, stack: ExitStack) -> None:
        folder = stack.enter_context(cache.temporary_folder("bench-notify"))
        self._server = stack.enter_context(PostgreSQL(folder))
        self._pgbench = files(PACKAGE) / "pginstall" / "bin" / "pgbench"
        self._script = folder / "publish.sql"
        self._script.write_text(SCRIPT)
        self._databases = {}
        for service, database in DATABASES.items():
            self._manage(service)
            connection = stack.enter_context(psycopg.connect(self._server.url(database), autocommit=True))
            connection.execute("CREATE TABLE bench_state (id bigserial PRIMARY KEY, body text)")
            self._databases[service] = connection

    def _variables(self, service: str) -> dict[str, str]:
        addresses = {f"{name.upper()}_DATABASE_URL": self._server.url(DATABASES[name]) for name in DATABASES}
        return environment(
            service, addresses={**addresses, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, secret_key="x" * 50
        )

    def _manage(self, service: str) -> None:
        command = [sys.executable, "manage.py", "migrate", "-v0"]
        subprocess.run(command, cwd=ROOT, env=self._variables(service), check=True)

    @contextmanager
    def trigger(self, kind: str) -> Iterator[list[subprocess.Popen[str]]]:
        """Empty the tables, install this kind of trigger, and run a relay for each database within the block."""
        relays = []
        for service, connection in self._databases.items():
            connection.execute(b"TRUNCATE outbox, bench_state")
            connection.execute(TRIGGERS[kind].encode())
            command = [sys.executable, "-m", "bench.notify", "relay"]
            environ = {**self._variables(service), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
            relays.append(subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True))
        try:
            for one in relays:
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            yield relays
        finally:
            for one in relays:
                one.kill()
                one.wait()

    def commits(self, services: list[str]) -> float:
        """The commits per second of CONNECTIONS publishers, distributed over these databases."""
        command = [
            str(self._pgbench), "-n", "-M", "prepared", "-f", str(self._script),
            "-c", str(CONNECTIONS // len(services)), "-j", "2", "-T", str(SECONDS),
        ]  # fmt: skip
        running = [
            subprocess.Popen([*command, self._server.url(DATABASES[service])], stdout=subprocess.PIPE, text=True)
            for service in services
        ]
        outputs = [one.communicate()[0] for one in running]
        return sum(float(output.split("tps = ")[1].split()[0]) for output in outputs)

    def wake(self, relays: list[subprocess.Popen[str]]) -> list[float]:
        """The times from an INSERT until a sleeping relay has fetched the row, in ms."""
        latencies = []
        for _ in range(EVENTS):
            time.sleep(0.03)
            self._databases["users"].execute(WAKE, [str(time.monotonic())])
            assert relays[0].stdout is not None
            latencies.append(float(relays[0].stdout.readline()))
        return latencies


def measure(rounds: int) -> str:
    """Measure everything, and return the table."""
    one: dict[str, list[float]] = {kind: [] for kind in TRIGGERS}
    two: dict[str, list[float]] = {kind: [] for kind in TRIGGERS}
    woken: dict[str, list[float]] = {kind: [] for kind in TRIGGERS}
    with ExitStack() as stack:
        bench = Bench(stack)
        for number in range(rounds):
            kinds = list(TRIGGERS)
            for kind in kinds[number % 3 :] + kinds[: number % 3]:
                print(f"round {number + 1}: {kind}", file=sys.stderr, flush=True)
                with bench.trigger(kind) as relays:
                    if kind != NONE:
                        woken[kind] += bench.wake(relays)
                    one[kind].append(bench.commits(["users"]))
                    two[kind].append(bench.commits(list(DATABASES)))
    lines = [HEAD.format(CONNECTIONS), "|---|---|---|---|---|---|"]
    for kind in TRIGGERS:
        latency = (
            f"{statistics.median(woken[kind]):.1f} / {percentile(woken[kind], 99):.1f}"
            if woken[kind]
            else "up to 1,000"
        )
        lines.append(
            f"| {kind} | {each(one[kind])} | {ratio(one[kind], one[NONE]):.2f} | {each(two[kind])}"
            f" | {ratio(two[kind], two[NONE]):.2f} | {latency} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table, or run as the relay of a measurement."""
    parser = argparse.ArgumentParser(prog="bench.notify")
    parser.add_argument("role", nargs="?", choices=["relay"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.role == "relay":
        relay()
    print(measure(options.rounds))


if __name__ == "__main__":
    main()
