"""The relay: sends outbox rows in order, and marks a row only after the broker confirmed it.

One relay of a service sends at a time, others stand by: the one with PostgreSQL's advisory lock, which belongs to its
session and so is free the moment that the relay, or its machine, is gone. A relay that is frozen loses its session too
(`idle_session_timeout`), and with it the right to mark; what it had already given to the Kafka client may still go out,
but those rows are unmarked, so its successor sends them as well and the inbox knows the repeat. Order per key holds
without any agreement between relays. See docs/adr/.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from django.conf import settings
from django.db import DatabaseError, connections
from psycopg import Error as PsycopgError

from chassis.database.session import require_direct
from chassis.messaging import kafka, outbox
from chassis.messaging.dependency import Dependency
from chassis.messaging.floor import Floor
from chassis.messaging.loop import Heartbeat, Stop
from chassis.messaging.wakeup import Wakeup
from chassis.observability import metrics, tracing

log = structlog.get_logger(__name__)

LOCK = 0x0_B0C5  # any number, the same in every relay of a service's database
SESSION_SECONDS = 5
"""A relay that says nothing to PostgreSQL for this long has lost its session, and its lock."""
PING_SECONDS = 1.0
STANDBY_SECONDS = 1.0
STOP_SECONDS = 3.0
"""How long a relay that is told to stop waits for the broker's answer to what it has sent."""

UNSENT = """
SELECT position, event_id, topic, key, raw_key, payload, headers, created_at FROM outbox AS o
WHERE position > %s AND sent_at IS NULL AND parked_at IS NULL {unless_parked}
ORDER BY position LIMIT %s
"""
BEHIND_PARKED = """
AND NOT EXISTS (SELECT 1 FROM outbox AS p WHERE p.topic = o.topic AND p.key = o.key
                AND p.sent_at IS NULL AND p.parked_at IS NOT NULL AND p.discarded_at IS NULL
                AND p.position < o.position)
"""
MARK = "UPDATE outbox SET sent_at = clock_timestamp() WHERE position = ANY(%s)"
MARK_LATE = "UPDATE outbox SET sent_at = clock_timestamp() WHERE event_id = ANY(%s) AND sent_at IS NULL"
"""By the event's id: a position may be another event's in a database that a failover, or a restore, has set back."""
CAN_WRITE = "SELECT current_setting('transaction_read_only') = 'off'"
PARK = "UPDATE outbox SET parked_at = clock_timestamp(), parked_reason = %s WHERE position = %s"


class Lost(Exception):
    """The session, and with it the lock, is gone: stand in line again."""


class Batch:
    """One batch on its way: what was confirmed, refused for good, and failed for now."""

    def __init__(self) -> None:
        self.confirmed: list[int] = []
        self.refused: dict[int, str] = {}
        self.failed: KafkaError | None = None
        self.waiting = 0

    def on_delivery(self, position: int) -> Callable[[KafkaError | None, Message], None]:
        """The callback for one row."""
        self.waiting += 1

        def done(error: KafkaError | None, _: Message) -> None:
            self.waiting -= 1
            if error is None:
                self.confirmed.append(position)
            elif error.code() in kafka.REFUSED_FOR_GOOD:
                self.refused[position] = f"{error.name()}: {error.str()}"
            else:
                self.failed = error

        return done


class Relay:
    """A long-lived loop: get the lock; then take a batch, send it, mark it, wait for more."""

    def __init__(self, stop: Stop, heartbeat: Heartbeat) -> None:
        self._stop = stop
        self._heartbeat = heartbeat
        self._connection = connections[settings.SERVICE_DATABASE]
        self._producer: Producer = kafka.producer(error_cb=self._on_client_error)
        self._complaint: KafkaError | None = None
        self._database = Dependency("database")
        self._broker = Dependency("broker")
        heartbeat.watch(self._database, self._broker)
        self._active = False
        self._said_so = False
        self._unfinished: tuple[list[Any], Batch] | None = None
        self._wakeup = Wakeup(self._connection)
        self._floor = Floor()

    @property
    def active(self) -> bool:
        """Whether this relay is the one that sends."""
        return self._active

    @property
    def floor(self) -> int | None:
        """The position up to which no row waits to be sent, if this relay knows: the one that sends does."""
        return self._floor.position if self._active else None

    @property
    def broker_up(self) -> bool:
        """Whether the broker took the last batch."""
        return self._broker.up

    @property
    def database_up(self) -> bool:
        """Whether the database answered last."""
        return self._database.up

    def run(self) -> None:
        """Turn until told to stop. Raises Pooled where a pooler stands between it and PostgreSQL."""
        with tracing.untraced():
            while not self._stop:
                self._heartbeat.beat()
                try:
                    self._turn()
                except (DatabaseError, PsycopgError, Lost) as error:
                    self._let_go(error)
        self._close()

    def _turn(self) -> None:
        if not self._active:
            self._stand_by()
            return
        self._finish_late()
        rows = self._take()
        self._database_answered()
        if rows:
            self._wakeup.awake()
            self._send(rows)
            self._floor.sent(len(rows))
        else:
            self._broker.forget()
            self._wait_for_more()

    # --- the lock ---

    def _stand_by(self) -> None:
        """Try to get the lock; whoever holds it is sending."""
        wait = self._database.next_try - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, 0.5))
            return
        require_direct(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT set_config('idle_session_timeout', %s, false)", [f"{SESSION_SECONDS}s"])
            cursor.execute(CAN_WRITE)
            if cursor.fetchone() != (True,):
                raise Lost("the database is read-only")
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            (mine,) = cursor.fetchone()
        self._heartbeat.joined.set()
        if mine:
            self._wakeup.begin()
            self._floor.reset()  # whoever sent before may have been told of rows to send again
            self._active = True
            metrics.RELAY_ACTIVE.set(1)
        else:
            self._unfinished = None  # whoever has the lock now sends these rows again
            self._database.answered()
            time.sleep(STANDBY_SECONDS)

    def _let_go(self, error: Exception) -> None:
        """The connection failed, so the lock is gone: begin again."""
        if self._said_so:
            log.warning("the relay's session ended, standing by", reason=str(error).strip()[:300])
        self._active = self._said_so = False
        metrics.RELAY_ACTIVE.set(0)
        self._connection.close()
        self._database.failed(error)

    def _database_answered(self) -> None:
        """It does what a relay needs; only that, and not the lock, says that it is back."""
        self._database.answered()
        if not self._said_so:
            self._said_so = True
            log.info("relaying")

    def _on_client_error(self, error: KafkaError) -> None:
        """The Kafka client tells why it has no broker; it goes on trying by itself."""
        kafka.on_error(error)
        if error.code() in kafka.UNREACHABLE:
            self._complaint = error

    # --- a batch ---

    def _finish_late(self) -> None:
        """Mark what was on its way, or confirmed, when the database could not be told: so it is not sent again."""
        if self._unfinished is None:
            return
        rows, batch = self._unfinished
        self._flush(batch)
        confirmed = set(batch.confirmed)
        with self._connection.cursor() as cursor:
            cursor.execute(MARK_LATE, [[event_id for position, event_id, *_ in rows if position in confirmed]])
        self._unfinished = None

    def _take(self) -> list[Any]:
        if self._wakeup.rescan():
            self._floor.reset()
        unless_parked = BEHIND_PARKED if settings.OUTBOX_PARKED_KEY == "wait" else ""
        with self._connection.cursor() as cursor:
            self._floor.rise(cursor)
            query = UNSENT.format(unless_parked=unless_parked)
            cursor.execute(query, [self._floor.position, settings.OUTBOX_BATCH_SIZE])
            return list(cursor.fetchall())

    def _send(self, rows: list[Any]) -> None:
        started = time.perf_counter()
        batch = Batch()
        self._unfinished = rows, batch
        self._produce(rows, batch)
        self._flush(batch)
        self._mark(rows, batch)
        self._unfinished = None
        metrics.RELAY_BATCH_SIZE.observe(len(rows))
        metrics.RELAY_BATCH_SECONDS.observe(time.perf_counter() - started)
        outcome = "failed" if batch.failed else "partial" if batch.refused else "sent"
        metrics.RELAY_BATCHES.labels(outcome).inc()
        if batch.failed:
            self._broker.failed(KafkaException(batch.failed))
            self._pause(self._broker.next_try - time.monotonic())
        elif batch.confirmed:
            self._complaint = None
            self._broker.answered()

    def _produce(self, rows: Iterable[Any], batch: Batch) -> None:
        """Hand rows to the client, in order. Behind one that is refused at once, its key waits (OUTBOX_PARKED_KEY)."""
        held: set[tuple[str, str | None]] = set()
        for position, _, topic, key, raw_key, payload, headers, _ in rows:
            if (topic, key) in held:
                continue
            wire_key = bytes(raw_key) if raw_key is not None else None if key is None else key.encode()
            value = None if payload is None else bytes(payload)
            reason = self._too_large(topic, wire_key, value)
            if reason is None:
                self._give(topic, wire_key, value, outbox.headers_from_json(headers), batch.on_delivery(position))
            else:
                batch.refused[position] = reason
                if settings.OUTBOX_PARKED_KEY == "wait":
                    held.add((topic, key))

    @staticmethod
    def _too_large(topic: str, key: bytes | None, value: bytes | None) -> str | None:
        limit = settings.KAFKA_MAX_MESSAGE_BYTES + (kafka.DEAD_LETTER_HEADROOM if topic.endswith(".dlq") else 0)
        size = len(key or b"") + len(value or b"")
        return f"{size} bytes; this topic allows {limit} (KAFKA_MAX_MESSAGE_BYTES)" if size > limit else None

    def _give(self, topic: str, key: bytes | None, value: bytes | None, headers: Any, done: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=done)
            except BufferError:
                self._producer.poll(0.1)
                self._ping()
            else:
                return

    def _flush(self, batch: Batch) -> None:
        """Wait until the broker has answered for every row, however long it is away; keep the session alive meanwhile."""
        pinged = started = time.monotonic()
        while batch.waiting:
            self._producer.flush(0.25)
            now = time.monotonic()
            if batch.waiting and now - pinged > PING_SECONDS:
                pinged = now
                self._ping()
                if now - started > 2 * PING_SECONDS:
                    why = KafkaException(self._complaint) if self._complaint else TimeoutError("no confirmation")
                    self._broker.failed(why)
            if batch.waiting and self._stop and now - started > STOP_SECONDS:
                # Unmarked rows are sent again by the next relay; the inbox knows the repeat.
                self._producer.purge()
                self._producer.flush(0.5)

    def _ping(self) -> None:
        self._heartbeat.beat()
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    def _mark(self, rows: list[Any], batch: Batch) -> None:
        with self._connection.cursor() as cursor:
            if batch.confirmed:
                cursor.execute(MARK, [batch.confirmed])
            for position, reason in batch.refused.items():
                cursor.execute(PARK, [reason, position])
        now = time.time()
        confirmed = set(batch.confirmed)
        for position, event_id, topic, key, *_, created_at in rows:
            if position in confirmed:
                metrics.OUTBOX_PUBLISHED.labels(topic).inc()
                metrics.OUTBOX_DELAY.observe(max(0.0, now - created_at.timestamp()))
            elif position in batch.refused:
                metrics.OUTBOX_REFUSED.labels(topic).inc()
                reason = batch.refused[position]
                log.error(
                    "outbox row parked", topic=topic, key=key, event_id=str(event_id), position=position, reason=reason
                )

    # --- waiting ---

    def _wait_for_more(self) -> None:
        """Sleep until a transaction that published has committed, or for OUTBOX_POLL_SECONDS."""
        if self._wakeup.sleep(min(settings.OUTBOX_POLL_SECONDS, PING_SECONDS)):
            self._floor.reset()

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stop and time.monotonic() < deadline:
            time.sleep(0.1)
            self._heartbeat.beat()

    def _close(self) -> None:
        self._producer.flush(2.0)
        self._connection.close()
        log.info("relay stopped")
