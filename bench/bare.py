"""The bare steps of the story without any of the system: two commits and three hops, one in a Kafka transaction."""

import time
import uuid
from typing import Self

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from embedded.engines import Engines

TOPICS = ("bare.user", "bare.order", "bare.payment")
BODY = (
    b'{"orderId":"6f1c2a9e-3b7d-4c58-9e02-d4a1b8c7f635","userId":"8f14e45f-ceea-467f-9d2c-1e2b6f0f3a55","amount":0.00}'
)
WITHIN = 10.0
BATCH = 500


class Bare:
    """Connections and clients configured as in the services: `fsync`, `acks=all`, idempotence; use as a context manager."""

    def __init__(self, engines: Engines) -> None:
        servers = {"bootstrap.servers": engines.kafka.bootstrap_servers, "log_level": 0}
        admin = AdminClient(servers)
        for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in TOPICS]).values():
            future.result(30)
        self._databases = [psycopg.connect(engines.postgres.url(name)) for name in ("userdb", "orderdb")]
        for database in self._databases:
            database.execute("CREATE TABLE bare (id uuid PRIMARY KEY, body bytea)")
            database.commit()
        options = {**servers, "acks": "all", "enable.idempotence": True, "linger.ms": 0}
        self._producer = Producer(options)
        self._payments = Producer({**options, "transactional.id": "bare"})
        self._payments.init_transactions(30)
        self._consumers = [self._reader(servers, topic) for topic in TOPICS]

    @staticmethod
    def _reader(servers: dict[str, object], topic: str) -> Consumer:
        # Assigned manually: joining a group is not part of the story.
        reader = Consumer(
            {**servers, "group.id": topic, "enable.auto.commit": False, "isolation.level": "read_committed"}
        )
        reader.assign([TopicPartition(topic, 0, 0)])
        return reader

    def __enter__(self) -> Self:
        """Warm up: the first record of a topic waits for metadata."""
        for _ in range(5):
            self.story()
        return self

    def __exit__(self, *error: object) -> None:
        """Close everything."""
        for consumer in self._consumers:
            consumer.close()
        for database in self._databases:
            database.close()

    def story(self) -> float:
        """Run all steps once, and return the duration in seconds."""
        users, orders = self._databases
        started = time.perf_counter()
        self._commit(users)
        self._hop(0)
        self._commit(orders)
        self._hop(1)
        self._transaction()
        return time.perf_counter() - started

    def drain(self, events: int) -> float:
        """Run the same steps for a backlog, in batches of BATCH, and return the number of events per second."""
        users, orders = self._databases
        for _ in range(events):
            self._producer.produce(TOPICS[0], BODY)
            self._producer.poll(0)
        self._producer.flush(WITHIN)
        started = time.perf_counter()
        for first in range(0, events, BATCH):
            size = min(BATCH, events - first)
            self._receive(0, size)
            self._copy(users, size)
            self._copy(orders, size)
            self._hop(1, size)
            self._transaction(size)
        return events / (time.perf_counter() - started)

    @staticmethod
    def _copy(database: psycopg.Connection, size: int) -> None:
        with database.cursor().copy("COPY bare FROM STDIN") as copy:
            for _ in range(size):
                copy.write_row((uuid.uuid4(), BODY))
        database.commit()

    @staticmethod
    def _commit(database: psycopg.Connection) -> None:
        database.execute("INSERT INTO bare VALUES (%s, %s)", [uuid.uuid4(), BODY])
        database.commit()

    def _hop(self, number: int, size: int = 1) -> None:
        for _ in range(size):
            self._producer.produce(TOPICS[number], BODY)
        self._producer.flush(WITHIN)
        self._receive(number, size)

    def _transaction(self, size: int = 1) -> None:
        consumer = self._consumers[1]
        self._payments.begin_transaction()
        for _ in range(size):
            self._payments.produce(TOPICS[2], BODY)
        positions = consumer.position([TopicPartition(TOPICS[1], 0)])
        self._payments.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), WITHIN)
        self._payments.commit_transaction(WITHIN)
        self._receive(2, size)

    def _receive(self, number: int, size: int) -> None:
        deadline = time.monotonic() + WITHIN
        while size and time.monotonic() < deadline:
            first = self._consumers[number].poll(1.0)
            rest = self._consumers[number].consume(size - 1, 0) if size > 1 else []
            size -= sum(message is not None and message.error() is None for message in (first, *rest))
        if size:
            raise TimeoutError(f"{size} records on {TOPICS[number]} did not arrive within {WITHIN:g} s")
