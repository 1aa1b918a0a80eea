"""Drains a backlog: user.created records are produced while the consumer of orders is suspended, which then resumes."""

import time
from dataclasses import dataclass

import psycopg
from confluent_kafka import Producer

from bench import processes, samples
from bench.live import Live

EVENTS = 20_000
WITHIN = 120.0
SETTLED = "SELECT count(*) FROM orders WHERE status <> 'pending'"
SAMPLE = f"{SETTLED} AND user_id = ANY(%s)"


@dataclass(frozen=True)
class Drain:
    """A round: settled orders per second, and the CPU time of each part per event, in microseconds."""

    per_second: float
    cost: dict[str, float]


def drain(live: Live, events: int = EVENTS) -> Drain:
    """Measure from resuming the consumers of orders to the last order paid or failed. Raises TimeoutError."""
    consumers = [child for name, child in live.children.items() if name.startswith("orders-consume")]
    with psycopg.connect(live.engines.postgres.url("orderdb"), autocommit=True) as orders:
        expected = _count(orders) + events
        created = samples.user_created(events)
        users = [one.key.decode() for one in created]
        for consumer in consumers:
            consumer.pause()
        try:
            _produce(live.engines.kafka.bootstrap_servers, created)
            before = processes.used(live)
        finally:
            started = time.monotonic()
            for consumer in consumers:
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


def _produce(bootstrap_servers: str, created: list[samples.Sample]) -> None:
    """Produce user.created events, as the relay of users does."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "partitioner": "murmur2_random"})
    for one in created:
        producer.produce("user.created", one.value, one.key, headers=one.headers)
        producer.poll(0)
    if left := producer.flush(30):
        raise TimeoutError(f"Kafka did not acknowledge {left} of {len(created)} events within 30 s")


def _count(orders: psycopg.Connection, users: list[str] | None = None) -> int:
    row = (orders.execute(SAMPLE, [users]) if users else orders.execute(SETTLED)).fetchone()
    assert row is not None
    return int(row[0])
