"""The evidence at the end of a run: the rows of both databases and the records on Kafka, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from chaos.engines import Engines
from chaos.load import Response
from chaos.poison import Poison
from chaos.topics import Reader
from embedded.topics import Place, SeenRecord

AUDIT_TRIGGERS = """
CREATE TABLE chaos_inbox (seq bigserial PRIMARY KEY, event_id text, batch bigint DEFAULT txid_current());
CREATE TABLE chaos_settled (seq bigserial PRIMARY KEY, order_id uuid);
CREATE FUNCTION chaos_note_inbox() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO chaos_inbox (event_id) VALUES (NEW.event_id); RETURN NULL;
END $$;
CREATE FUNCTION chaos_note_settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO chaos_settled (order_id) VALUES (NEW.id); RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER chaos_inbox AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION chaos_note_inbox();
CREATE TRIGGER chaos_settled AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION chaos_note_settled();
"""
"""Triggers in the database of orders that record the order in which batches are committed and each change of an order.

The first is deferred to the commit, since a suspended consumer may lose the ids that it claimed until then.
"""

USERS = "SELECT id::text, email FROM users"
ORDERS = "SELECT id::text, user_id, items->0->>'productId', status, payment_id::text FROM orders"
OUTBOX = "SELECT position, event_id::text, topic, key, sent_at IS NOT NULL, parked_reason FROM outbox ORDER BY position"
CLAIMED = """
SELECT i.event_id, coalesce(w.number, 0) FROM inbox i LEFT JOIN (
  SELECT event_id, min(seq) OVER (PARTITION BY batch) AS number FROM chaos_inbox
) AS w USING (event_id)
"""
SESSIONS = """
SELECT application_name, state FROM pg_stat_activity
WHERE datname = current_database() AND xact_start < now() - interval '2 seconds' AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class User:
    """A row of users."""

    id: str
    email: str


@dataclass(frozen=True)
class Order:
    """A row of orders; `product` is that of its first item."""

    id: str
    user_id: str
    product: str
    status: str
    payment_id: str | None


@dataclass(frozen=True)
class OutboxRow:
    """A row of an outbox."""

    position: int
    event_id: str
    topic: str
    key: str | None
    sent: bool
    parked: str | None


@dataclass
class Evidence:
    """Everything that the checks examine."""

    responses: Sequence[Response] = ()
    users: Sequence[User] = ()
    orders: Sequence[Order] = ()
    outbox: Mapping[str, Sequence[OutboxRow]] = field(default_factory=dict)
    claimed: Mapping[str, int] = field(default_factory=dict)
    """The events in the inbox of orders, each with the number of its batch in commit order."""
    settled: Sequence[str] = ()
    """The id of the order, for each change of an order."""
    seen: Mapping[str, Sequence[SeenRecord]] = field(default_factory=dict)
    poison: Mapping[Place, Poison] = field(default_factory=dict)
    sequences: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lag: Mapping[str, int] = field(default_factory=dict)
    open_transactions: Mapping[str, int] = field(default_factory=dict)
    sessions: Sequence[str] = ()
    """Database sessions in a transaction that is too old."""


def create_audit_triggers(engines: Engines) -> None:
    """Create triggers in the database of orders that record what its rows do not show."""
    with psycopg.connect(engines.address("orders"), autocommit=True) as connection:
        connection.execute(AUDIT_TRIGGERS.encode())


def collect(engines: Engines, reader: Reader, **known: Any) -> Evidence:
    """Read both databases and Kafka. `known` is what the run itself recorded: responses, poison, sequences."""
    reader.catch_up()
    users, orders = engines.address("users"), engines.address("orders")
    return Evidence(
        users=[User(*row) for row in _rows(users, USERS)],
        orders=[Order(*row) for row in _rows(orders, ORDERS)],
        outbox={
            name: [OutboxRow(*row) for row in _rows(url, OUTBOX)]
            for name, url in (("users", users), ("orders", orders))
        },
        claimed=_claimed(orders),
        settled=[order for (order,) in _rows(orders, "SELECT order_id::text FROM chaos_settled ORDER BY seq")],
        seen=reader.seen,
        lag=reader.lag(),
        open_transactions=reader.open_transactions(),
        sessions=[f"{name}: {state}" for url in (users, orders) for name, state in _rows(url, SESSIONS)],
        **known,
    )


def _claimed(url: str) -> dict[str, int]:
    """The ids in the inbox, with the number of the batch, or 0 if the trigger did not record it."""
    return dict(_rows(url, CLAIMED))


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        return connection.execute(query.encode()).fetchall()


def count_pending(engines: Engines) -> int:
    """The number of unsent outbox rows and pending orders."""
    unsent = "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND parked_at IS NULL"
    pending = "SELECT count(*) FROM orders WHERE status = 'pending'"
    users, orders = engines.address("users"), engines.address("orders")
    return sum(_rows(url, query)[0][0] for url, query in ((users, unsent), (orders, unsent), (orders, pending)))
