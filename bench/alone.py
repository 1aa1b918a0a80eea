"""A worker alone: the relay beside a bare producer, the consumer of payments beside a bare transactional loop.

Both move the same bytes: key, payload and headers of events as the services write them. A worker is suspended while its events
are written, and everything else is idle.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench import samples
from bench.live import Live
from embedded import ports
from embedded.processes import Child, drive
from embedded.runner import JOB_WITHIN, READY_WITHIN, get

EVENTS = 20_000
BATCH = 500
PARTITIONS = 6
WITHIN = 60.0
PREFIX = "alone."
"""KAFKA_PREFIX of a second consumer of payments, so that orders does not receive payments for orders that do not exist."""

COPY = "COPY outbox (event_id, topic, key, payload, headers, request_id) FROM STDIN"
UNSENT = "SELECT EXISTS (SELECT 1 FROM outbox WHERE sent_at IS NULL)"
PRODUCER = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "log_level": 0,
}


def relay(live: Live) -> tuple[float, float]:
    """Rows per second that the relay of orders sends, and records per second of a bare producer."""
    servers = live.engines.kafka.bootstrap_servers
    topic = f"{PREFIX}relay"
    _create(servers, topic)
    ours = _relay(live, topic, samples.order_created(EVENTS))
    producer = Producer({"bootstrap.servers": servers, **PRODUCER})
    bodies = samples.order_created(EVENTS)
    started = time.perf_counter()
    for one in bodies:
        producer.produce(topic, one.value, one.key, headers=one.headers)
        producer.poll(0)
    if left := producer.flush(WITHIN):
        raise TimeoutError(f"Kafka did not acknowledge {left} records within {WITHIN:g} s")
    return ours, EVENTS / (time.perf_counter() - started)


def _relay(live: Live, topic: str, events: list[samples.Sample]) -> float:
    child = live.children["orders-relay"]
    with psycopg.connect(live.engines.postgres.url("orderdb"), autocommit=True) as database:
        with _suspended(child), database.cursor().copy(COPY) as copy:
            for one in events:
                copy.write_row((one.id, topic, one.key.decode(), one.value, one.headers_as_json(), one.id))
        started = time.perf_counter()
        while database.execute(UNSENT).fetchone() == (True,):
            _check(started)
            time.sleep(0.01)
    return EVENTS / (time.perf_counter() - started)


@contextmanager
def payments(live: Live) -> Iterator["Payments"]:
    """A consumer of payments with topics of its own."""
    variables = {"KAFKA_PREFIX": PREFIX, "KAFKA_TOPIC_PARTITIONS": str(PARTITIONS)}
    setup = live.child("alone-topics", [sys.executable, "manage.py", "topics"], "payments", variables)
    drive(setup.until_done(within=JOB_WITHIN))
    _create(
        live.engines.kafka.bootstrap_servers, f"{PREFIX}order.created"
    )  # that command creates what payments publishes
    [port] = ports.free(1)
    variables |= {"WORKER_PORT": str(port), "CONSUMER_ID": "alone"}
    child = live.child("alone-payments", [sys.executable, "manage.py", "consume"], "payments", variables)
    drive(child.until(lambda: get(port, "/health/ready")[0] == 200, within=READY_WITHIN))
    try:
        yield Payments(live.engines.kafka.bootstrap_servers, child)
    finally:
        child.stop()


class Payments:
    """Measures that consumer and the bare loop."""

    def __init__(self, servers: str, child: Child) -> None:
        self._servers = {"bootstrap.servers": servers, "log_level": 0}
        self._child = child
        self._topic = f"{PREFIX}order.created"
        self._written = f"{PREFIX}bare"
        _create(servers, self._written)
        self._group = Consumer({**self._servers, "group.id": f"{PREFIX}payments", "enable.auto.commit": False})
        self._producer = Producer({**self._servers, **PRODUCER, "transactional.id": "alone-bare", "linger.ms": 0})
        self._producer.init_transactions(30)
        self.measure(BATCH)  # warm

    def measure(self, events: int = EVENTS) -> tuple[float, float]:
        """Payments per second of the consumer, and of the bare loop for the same records."""
        starts = self._ends()
        with _suspended(self._child):
            self._produce(events)
            ends = self._ends()
        started = time.perf_counter()
        while self._committed() != ends:
            _check(started)
            time.sleep(0.01)
        ours = events / (time.perf_counter() - started)
        return ours, self._bare(events, starts)

    def _produce(self, events: int) -> None:
        producer = Producer({**self._servers, **PRODUCER})
        for one in samples.order_created(events):
            producer.produce(self._topic, one.value, one.key, headers=one.headers)
        producer.flush(WITHIN)

    def _ends(self) -> list[int]:
        known = self._group.list_topics(self._topic, timeout=10).topics[self._topic].partitions
        places = [TopicPartition(self._topic, number) for number in sorted(known)]
        return [self._group.get_watermark_offsets(place, timeout=10)[1] for place in places]

    def _committed(self) -> list[int]:
        places = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
        return [max(place.offset, 0) for place in self._group.committed(places, timeout=10)]

    def _bare(self, events: int, starts: list[int]) -> float:
        """Read, write as much, and commit both, in batches of BATCH."""
        reader = Consumer(
            {
                **self._servers,
                "group.id": "alone-bare",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        reader.assign([TopicPartition(self._topic, number, start) for number, start in enumerate(starts)])
        started, left = time.perf_counter(), events
        while left:
            _check(started)
            if not (messages := reader.consume(min(BATCH, left), 0.1)):
                continue
            self._producer.begin_transaction()
            for message in messages:
                self._producer.produce(self._written, message.value(), message.key(), headers=message.headers())
            positions = reader.position(reader.assignment())
            self._producer.send_offsets_to_transaction(positions, reader.consumer_group_metadata(), WITHIN)
            self._producer.commit_transaction(WITHIN)
            left -= len(messages)
        seconds = time.perf_counter() - started
        reader.close()
        return events / seconds


@contextmanager
def _suspended(child: Child) -> Iterator[None]:
    child.pause()
    try:
        yield
    finally:
        child.resume()


def _create(servers: str, topic: str) -> None:
    known = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    if topic not in known.list_topics(timeout=10).topics:
        [future] = known.create_topics([NewTopic(topic, PARTITIONS, 1)]).values()
        future.result(30)


def _check(started: float) -> None:
    if time.perf_counter() - started > WITHIN:
        raise TimeoutError(f"not finished after {WITHIN:g} s")
