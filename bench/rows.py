"""What an event and a request cost while the tables are empty, and with a million rows in each.

    PYTHONPATH=platform .venv/bin/python -m bench.rows
    PYTHONPATH=platform .venv/bin/python -m bench.rows --rows 10000000

Every statement of the hot paths runs, called as consumers, relays and web processes call it, in this process. The figures are
processor time, of this process and of its PostgreSQL session, so that other programs on the machine matter less.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chassis.ids import new_id
from embedded import cache
from embedded.postgres import PostgreSQL
from embedded.system import ROOT, environment

ROWS, BATCH, TIMES = 1_000_000, 500, 20
REQUESTS = 50
HEADERS = '[["ce_id", "{0}"], ["traceparent", "00-{0}-{0}-00"], ["rest", "{0}{0}{0}{0}{0}{0}{0}"]]'.format("x" * 36)
# One new id per row: drawing them takes most of the time.
NEW = "(SELECT n, uuidv7(n * interval '-1 ms') AS id, now() - n * interval '1 ms' AS at FROM generate_series(1, %(rows)s) AS n) AS new"
FILL = {
    "outbox": f"""
        INSERT INTO outbox (event_id, topic, key, payload, headers, request_id, created_at, sent_at)
        SELECT id, 'order.created', id::text, decode(repeat('78', 180), 'hex'), '{HEADERS}', 'r', at, now() FROM {NEW}
    """,  # noqa: S608  a constant
    "inbox": f"""
        INSERT INTO inbox (event_id, topic, source, key, request_id, consumed_at)
        SELECT id, 'user.created', '/users', id::text, 'r', at FROM {NEW}
    """,  # noqa: S608
    "orders": f"""
        INSERT INTO orders (id, user_id, items, total_amount, status, payment_id, is_welcome, created_at)
        SELECT id, id::text, '[]', 0, 'paid', id, true, at FROM {NEW}
    """,  # noqa: S608
    "users": f"""
        INSERT INTO users (id, email, name, created_at, modified_at)
        SELECT id, gen_random_uuid() || '@example.org', 'Ada', at, now() FROM {NEW}
    """,  # noqa: S608
}
TABLES = {"users": ("outbox", "users"), "orders": ("outbox", "inbox", "orders")}
Costs = dict[str, float]


class Bench:
    """The statements of one service, and what each of them costs."""

    def __init__(self, service: str) -> None:
        from django.db import connections
        from django.test import Client

        self._service = service
        # One for all: each loads the middleware with its first request, which costs ten times as much as a read.
        self._client = Client()
        self._connection = connections[service]
        with self._connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        self._session = Path(f"/proc/{pid}/schedstat")

    def fill(self, rows: int) -> None:
        """Fill the tables, as after months of operation: vacuumed and analysed."""
        with self._connection.cursor() as cursor:
            for table in TABLES[self._service]:
                print(f"{self._service}: {rows:,} rows of {table}", file=sys.stderr, flush=True)
                cursor.execute(FILL[table], {"rows": rows})
                cursor.execute(f"VACUUM (ANALYZE) {table}")

    def measure(self) -> Costs:
        """The median processor time of each step, in microseconds per event or per request."""
        return self._orders() if self._service == "orders" else self._users()

    def _time(self, costs: dict[str, list[float]], name: str, number: int, work: Callable[[], Any]) -> Any:
        before = self._used()
        answer = work()
        costs.setdefault(name, []).append((self._used() - before) / number * 1e6)
        return answer

    def _used(self) -> float:
        return time.process_time() + int(self._session.read_text().split()[0]) / 1e9

    # --- orders: events ---

    def _orders(self) -> Costs:
        from orders.models import Order

        costs: dict[str, list[float]] = {}
        floor = self._last_position()
        for _ in range(TIMES):
            users = [str(new_id()) for _ in range(BATCH)]
            self._time(costs, "orders: a user.created, to its commit", BATCH, lambda users=users: self._welcome(users))
            floor = self._time(costs, "relay: an order.created", BATCH, lambda floor=floor: self._relay(floor))
            ids = list(Order.objects.filter(user_id__in=users).values_list("id", flat=True))
            self._time(costs, "orders: a payment.completed, to its commit", BATCH, lambda ids=ids: self._close(ids))
        path = "/orders"
        self._requests(costs, path, Order.objects.order_by("created_at").values_list("id", flat=True)[:REQUESTS])
        return {name: statistics.median(found) for name, found in costs.items()}

    def _last_position(self) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT coalesce(max(position), 0) FROM outbox")
            (position,) = cursor.fetchone()
        return int(position)

    def _claimed(self, model: Any, payloads: list[tuple[str, dict[str, Any]]], handle: Callable[[Any], None]) -> None:
        """A batch as the consumer processes it: inbox, then the handler, in one transaction."""
        from django.db import transaction

        from chassis.consumer import inbox
        from chassis.events import Received

        received = [
            Received(model.model_validate(payload), str(new_id()), key, "r", source="/bench")
            for key, payload in payloads
        ]
        with transaction.atomic(using=self._service):
            inbox.claim(received, "SELECT 1")
            handle(received)

    def _welcome(self, users: list[str]) -> None:
        from orders import services
        from orders.events import UserCreated

        self._claimed(UserCreated, [(one, {"userId": one}) for one in users], services.make_welcome_orders)

    def _close(self, ids: list[uuid.UUID]) -> None:
        from orders import services
        from orders.events import PaymentCompleted

        payments = [(str(one), {"paymentId": str(new_id()), "orderId": str(one), "status": "completed"}) for one in ids]
        self._claimed(PaymentCompleted, payments, services.close_orders)

    def _relay(self, floor: int) -> int:
        from chassis.outbox import rows

        with self._connection.cursor() as cursor:
            found = rows.take(cursor, floor)
            rows.mark(cursor, found, late=False)
        return found[-1].position

    # --- HTTP ---

    def _users(self) -> Costs:
        from users.models import User

        costs: dict[str, list[float]] = {}
        for number in range(REQUESTS):
            body = {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}
            self._request(costs, "POST /users", "post", "/users", 201, body, warm=number < 5)
        self._requests(costs, "/users", User.objects.order_by("created_at").values_list("id", flat=True)[:REQUESTS])
        return {name: statistics.median(found) for name, found in costs.items()}

    def _requests(self, costs: dict[str, list[float]], path: str, ids: Any) -> None:
        known = list(ids)
        for number in range(REQUESTS):
            one = f"{path}/{known[number % len(known)]}"
            self._request(costs, f"GET {path}/ID", "get", one, 200, warm=number < 5)
            self._request(costs, f"GET {path}?limit=20", "get", f"{path}?limit=20", 200, warm=number < 5)

    def _request(
        self,
        costs: dict[str, list[float]],
        name: str,
        method: str,
        path: str,
        status: int,
        body: Any = None,
        *,
        warm: bool,
    ) -> None:
        arguments = {"data": body, "content_type": "application/json"} if body else {}
        send = getattr(self._client, method)
        response = self._time({} if warm else costs, name, 1, lambda: send(path, **arguments))
        assert response.status_code == status, response.content[:500]


def measure(service: str, rows: int) -> str:
    """The rows of the table for one service. Requires Django to be set up and the database to be migrated."""
    from django.test.utils import setup_test_environment

    setup_test_environment()
    bench = Bench(service)
    empty = bench.measure()
    bench.fill(rows)
    full = bench.measure()
    return "\n".join(
        f"| {name} | {micros:,.0f} | {full[name]:,.0f} | {full[name] / micros:.2f} |" for name, micros in empty.items()
    )


def main() -> None:
    """Measure both services on a separate server, and print the table; or, with a service, its part."""
    parser = argparse.ArgumentParser(prog="bench.rows")
    parser.add_argument("service", nargs="?", choices=TABLES)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    if options.service:
        import django

        django.setup()
        print(measure(options.service, options.rows), flush=True)
        return
    print(
        f"| µs of processor time | empty tables | {options.rows:,} rows in each | ratio |\n|---|---|---|---|",
        flush=True,
    )
    with cache.temporary_folder("bench-rows") as folder, PostgreSQL(folder) as server:
        addresses = {
            "USERS_DATABASE_URL": server.url("userdb"),
            "ORDERS_DATABASE_URL": server.url("orderdb"),
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        }
        for service in options.only:
            variables = environment(service, addresses=addresses, secret_key="x" * 50) | {
                "OUTBOX_CHECK_KEYS": "off",
                "LOG_LEVEL": "ERROR",
                "PYTHONPATH": str(ROOT / "platform"),
            }
            subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=variables, check=True)
            command = [sys.executable, "-m", "bench.rows", service, "--rows", str(options.rows)]
            subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=True)


if __name__ == "__main__":
    main()
