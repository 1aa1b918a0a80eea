"""With a million rows in every table, no statement of the hot paths reads a whole table."""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client

from bench.rows import FILL, HEADERS, TABLES
from chassis.consumer import inbox
from chassis.events import Received
from chassis.ids import new_id
from chassis.outbox import floor as outbox_floor
from chassis.outbox import gauges, retention, rows
from orders import metrics, services
from orders.events import PaymentCompleted, UserCreated
from orders.models import Order
from users.models import User

ROWS = 1_000_000
EXPLAINED = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


@contextmanager
def filled(service: str, tables: Sequence[str] = ()) -> Iterator[None]:
    """Within the block, the tables of the service, or only these, are full. Neither the size of a row nor a log of changes affects a plan."""
    with connections[service].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        tables = tables or TABLES[service]
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} SET UNLOGGED")
            cursor.execute(FILL[table].replace(HEADERS, "[]"), {"rows": ROWS})
            cursor.execute(f"ANALYZE {table}")
        try:
            yield
        finally:
            for table in tables:
                cursor.execute(f"TRUNCATE {table}")
                cursor.execute(f"ALTER TABLE {table} SET LOGGED")


def plan(service: str, statement: str, values=None, *, options: str = "") -> dict:
    with connections[service].cursor() as cursor:
        cursor.execute(f"EXPLAIN ({options}FORMAT JSON) {statement}", values)
        [(found,)] = cursor.fetchall()
    return (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]


def scanned(node: dict) -> set[str]:
    """The tables that a plan reads from the first to the last row."""
    own = {node["Relation Name"]} if node["Node Type"] == "Seq Scan" else set()
    return own.union(*map(scanned, node.get("Plans", [])))


def check(service: str, statements: dict[str, dict]) -> None:
    tables = set(TABLES[service])
    assert {name: found for name, one in statements.items() if (found := scanned(one) & tables)} == {}


def captured(service: str, work) -> dict[str, dict]:
    """The plans of the statements that `work` executes through Django."""
    statements: dict[str, Any] = {}

    def note(execute, sql, params, many, context):
        if isinstance(sql, str) and sql.lstrip().startswith(EXPLAINED):
            statements[sql] = params
        return execute(sql, params, many, context)

    with connections[service].execute_wrapper(note):
        work()
    assert statements
    return {sql: plan(service, sql, params) for sql, params in statements.items()}


def test_a_plan_that_reads_a_whole_table_is_found():
    node = {"Node Type": "Limit", "Plans": [{"Node Type": "Seq Scan", "Relation Name": "users"}]}
    assert scanned(node) == {"users"}


@pytest.mark.service("orders")
@pytest.mark.django_db(databases=["orders"], transaction=True)
def test_orders(settings):
    settings.OUTBOX_CHECK_KEYS = False  # as in production
    with filled("orders"):
        users = [Received(UserCreated(userId=str(new_id())), str(new_id()), "k", "r") for _ in range(500)]
        check("orders", _handlers(users) | _inbox(users) | _relay() | _requests_for_orders())


def _handlers(users) -> dict[str, dict]:
    plans = captured("orders", lambda: services.make_welcome_orders(users))
    ids = list(Order.objects.filter(status="pending").values_list("id", flat=True))
    paid = [
        Received(PaymentCompleted(paymentId=uuid.uuid4(), orderId=one, status="completed"), str(new_id()), "k", "r")
        for one in ids
    ]
    plans |= captured("orders", lambda: metrics.measure_pending(connections["orders"].cursor()))
    return plans | captured("orders", lambda: services.close_orders(paid))


def _inbox(received) -> dict[str, dict]:
    with transaction.atomic(using="orders"):
        assert len(inbox.claim(received, "SELECT 1")) == len(received)
    new = [{"event_id": str(new_id()), "topic": "t", "source": "s", "key": "k", "request_id": "r"} for _ in received]
    return {"claim": plan("orders", inbox.CLAIM, [json.dumps(new)])}


def _relay() -> dict[str, dict]:
    """The statements of the relay, its gauges and its purge; they use one cursor, as the relay does."""
    return {name: plan("orders", statement, values) for name, (statement, values) in _asked(ROWS // 2).items()}


def _asked(position: int) -> dict[str, tuple[str, Any]]:
    """These statements and their values, for a floor at this position."""
    bounds = {
        "floor": position,
        "rows": 1000,
        "bytes": 8_000_000,
        "largest": 16_000_000,
        "besides": ["a"],
        "topic": "a",
    }
    counted = {"counted": gauges.COUNTED}
    purge = {"after": 0, "before": "now", "batch": retention.BATCH}
    ids = [str(new_id()) for _ in range(1000)]
    return {
        "take": (rows.unsent(wait=True), bounds),
        "take of all topics but some": (rows.unsent(wait=True, topics=rows.ALL_BUT), bounds),
        "take of one topic": (rows.unsent(wait=True, topics=rows.ONE), bounds),
        "mark": (rows.MARK, [list(range(position, position + 1000))]),
        "mark late": (rows.MARK_LATE, [ids]),
        "park": (rows.PARK, ["reason", ids[0]]),
        "floor: first": (outbox_floor.FIRST, {"floor": position}),
        "floor: highest": (outbox_floor.HIGHEST_AND_INSERTING, None),
        "gauges: oldest": (gauges.OLDEST, None),
        "gauges: waiting": (gauges.WAITING, counted),
        "gauges: parked": (gauges.PARKED, counted),
        "purge": (retention.OUTBOX, purge),
    }


@pytest.mark.service("orders")
@pytest.mark.django_db(databases=["orders"], transaction=True)
def test_a_relay_without_statistics():
    """A new table has none until it is analyzed for the first time, and may have many rows by then."""
    with filled("orders", ["outbox"]), connections["orders"].cursor() as cursor:
        cursor.execute("SELECT pg_clear_relation_stats(current_schema(), 'outbox')")
        cursor.execute(
            "SELECT pg_clear_attribute_stats(current_schema(), 'outbox', attname, false) FROM pg_attribute"
            " WHERE attrelid = 'outbox'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        asked = _asked(ROWS // 2)
        executed = {
            name: plan("orders", *asked[name], options="ANALYZE, BUFFERS, ")
            for name in ("take", "take of one topic", "floor: first")
        }
        pages = {name: one["Shared Hit Blocks"] + one["Shared Read Blocks"] for name, one in executed.items()}
        assert max(pages.values()) < 100, pages


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_users():
    client = Client()

    def ask():
        body = {"email": "ada@example.org", "name": "Ada"}
        assert client.post("/users", body, content_type="application/json").status_code == 201
        assert client.get(f"/users/{one}").status_code == 200
        page = client.get("/users?limit=20").json()
        assert client.get(page["next"]).status_code == 200

    with filled("users"):
        one = User.objects.order_by("-created_at").values_list("id", flat=True)[ROWS // 1000]
        check("users", captured("users", ask))


def _requests_for_orders() -> dict[str, dict]:
    order = Order.objects.order_by("-created_at")[ROWS // 1000]
    client = Client()

    def ask():
        assert client.get(f"/orders/{order.id}").status_code == 200
        assert client.get("/orders?limit=20").status_code == 200
        assert client.get(f"/orders?userId={order.user_id}").json()["results"]

    return captured("orders", ask)
