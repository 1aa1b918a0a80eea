"""Drains a backlog: user.created records are produced while the consumer of orders is suspended, which then resumes."""

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from confluent_kafka import Producer

from bench import processes
from bench.live import Live

EVENTS = 5000
WITHIN = 120.0
SETTLED = "SELECT count(*) FROM orders WHERE status <> 'pending'"
SAMPLE = f"{SETTLED} AND user_id = ANY(%s)"


@dataclass(frozen=True)
class Drain:
    """A round: settled orders per second, and the CPU time of each part per event, in microseconds."""

    per_second: float
    cost: dict[str, float]


def drain(live: Live, events: int = EVENTS) -> Drain:
    """Measure from resuming the consumer to the last order paid or failed. Raises TimeoutError."""
    consumer = live.children["orders-consume"]
    with psycopg.connect(live.engines.postgres.url("orderdb"), autocommit=True) as orders:
        expected = _count(orders) + events
        consumer.pause()
        try:
            users = produce(live.engines.kafka.bootstrap_servers, events)
            before = processes.used(live)
        finally:
            started = time.monotonic()
            consumer.resume()
        # Counting all orders is expensive, so check a sample of the last ones first.
        sample = users[-100::5]
        while _count(orders, sample) < len(sample) or _count(orders) < expected:
            if time.monotonic() - started > WITHIN:
                raise TimeoutError(f"{expected - _count(orders)} of {events} orders are not settled after {WITHIN:g} s")
            time.sleep(0.01)
        seconds = time.monotonic() - started
    after = processes.used(live)
    return Drain(events / seconds, {name: (after[name] - before[name]) / events * 1e6 for name in before})


def produce(bootstrap_servers: str, events: int) -> list[str]:
    """Produce user.created events, as the relay of users does. Returns the ids of the users."""
    users: list[str] = []
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "partitioner": "murmur2_random"})
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    for _ in range(events):
        users.append(user := str(uuid.uuid4()))
        trace, span = uuid.uuid4().hex, uuid.uuid4().hex[:16]
        body = f'{{"userId":"{user}","email":"{user}@example.org","name":"Ada Lovelace","createdAt":"{now}"}}'
        headers = {
            "ce_specversion": "1.0",
            "ce_id": str(uuid.uuid4()),
            "ce_type": "user.created",
            "ce_source": "/users",
            "ce_time": now,
            "ce_origintime": now,
            "ce_dataschema": "urn:events:user.created:v1",
            "content-type": "application/json",
            "requestId": str(uuid.uuid4()),
            "traceId": trace,
            "spanId": span,
            "traceparent": f"00-{trace}-{span}-00",
        }
        producer.produce("user.created", body.encode(), user.encode(), headers=list(headers.items()))
        producer.poll(0)
    if left := producer.flush(30):
        raise TimeoutError(f"Kafka did not acknowledge {left} of {events} events within 30 s")
    return users


def _count(orders: psycopg.Connection, users: list[str] | None = None) -> int:
    row = (orders.execute(SAMPLE, [users]) if users else orders.execute(SETTLED)).fetchone()
    assert row is not None
    return int(row[0])
