"""The consumer: a loop that fetches records, processes a batch in one transaction, and commits the offsets of finished ones."""

import time
from typing import Any

import structlog
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from django.conf import settings

from chassis.consumer import counting, lost_events, orphaned_transactions
from chassis.consumer.backlog import Backlog
from chassis.consumer.crashes import CrashGuard
from chassis.consumer.database_transaction import DatabaseTransaction
from chassis.consumer.dispatch import Handlers
from chassis.consumer.gauges import ConsumerGauges
from chassis.consumer.intake import Intake
from chassis.consumer.kafka_transaction import KafkaTransaction
from chassis.consumer.membership import Membership
from chassis.consumer.missing_topics import MissingTopics
from chassis.consumer.pausing import Pausing
from chassis.consumer.start_positions import StartPositions
from chassis.consumer.topic_ids import TopicIds
from chassis.consumer.triage import Triage
from chassis.consumer.unit_of_work import BatchResult, Transaction
from chassis.consumer.unread import UnreadPartitions
from chassis.events.registry import Received
from chassis.events.registry import handlers as registered
from chassis.kafka import clients, statistics
from chassis.kafka.connectivity import Connectivity
from chassis.kafka.errors import Fenced
from chassis.kafka.records import Partition, Record, from_message
from chassis.observability import metrics
from chassis.observability.logging import log_all
from chassis.runtime.dependency import Dependency
from chassis.runtime.failures import Crashed, DependencyDown
from chassis.runtime.shutdown import Heartbeat, Overdue, Stop

log = structlog.get_logger(__name__)

IDLE_SECONDS = 0.5
"""Longest wait for a record, and so the longest time until an idle loop notices that it must stop."""

FENCED = frozenset({KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID})
"""Errors after which this client never delivers a record again. `error.fatal()` is not sufficient: it is False for an error that
a poll delivers, even for _FATAL, which a static member receives if a killed broker has lost its group."""


class SessionTooShort(Exception):
    """The broker rejects this consumer's session timeout, since its group.min.session.timeout.ms is longer."""


class Consumer:
    """A long-lived member of the service's consumer group.

    One iteration of the loop fetches, processes and commits. Nothing runs concurrently: rebalances are served while fetching,
    never during a transaction.
    """

    def __init__(
        self, stop: Stop, heartbeat: Heartbeat, session_seconds: float | None = None, *, accept_lost: bool = False
    ) -> None:
        """`session_seconds` is one of `clients.sessions()`, by default the first; `accept_lost`: see `LostEvents`."""
        self._handlers: Handlers = registered()
        self._stop = stop
        self._heartbeat = heartbeat
        self._backlog = Backlog()
        self._broker = Dependency("broker")
        self._connectivity = Connectivity(self._broker)
        self._client: KafkaConsumer = clients.consumer(
            session_seconds or clients.sessions()[0],
            error_cb=self._connectivity.on_error,
            on_commit=self._on_commit,
            **statistics.options(),
        )
        written = [] if settings.SERVICE_DATABASE else orphaned_transactions.written(self._handlers)
        self._missing = MissingTopics([*self._handlers, *written])
        self._topic_ids = TopicIds(self._missing)
        self._crashes = CrashGuard(self._client, self._backlog, self._topic_ids.of)
        self._lost = lost_events.LostEvents(
            self._client,
            self._topic_ids.admin,
            heartbeat,
            self._backlog.skip,
            self._topic_ids.tagged,
            accept=accept_lost,
        )
        self._intake = Intake(settings.CONSUMER_BATCH_BYTES)
        self._pausing = Pausing(self._client, self._backlog)
        self._positions = StartPositions(self._client, self._offsets_found)
        self._dependency = Dependency("database") if settings.SERVICE_DATABASE else self._broker
        self._dead_letters = Dependency("dead-letter topic", part="broker", label="dead_letter_topic")
        self._coordinator = Dependency("group's coordinator", part="broker", label="group_coordinator")
        heartbeat.watch(self._broker, self._dependency, self._dead_letters, self._coordinator, self._missing)
        self._transaction = self._open_transaction()
        self._triage = Triage(
            self._backlog,
            self._handlers,
            lambda: self._transaction,
            self._dependency,
            self._dead_letters,
            heartbeat.report,
        )
        self._assigned: set[Partition] = set()
        self._membership = Membership(self._client, heartbeat, self._join, self._assigned)
        self._unread = UnreadPartitions(self._topic_ids.admin, self._readable, self._lost.position)
        self._polled_at = 0.0
        self._gauges = ConsumerGauges(self._client, self._backlog, self._handlers, self._assigned)

    def _open_transaction(self) -> Transaction:
        if settings.SERVICE_DATABASE:
            return DatabaseTransaction(self._client, self._handlers, self._topic_ids.tagged)
        producer = clients.open_transactional(self._check, self._broker)
        transaction = KafkaTransaction(self._client, producer, self._handlers, self._check, self._topic_ids.tagged)
        clients.until_answered(transaction.end_hanging_transactions, self._check, self._broker)
        return transaction

    def _check(self) -> None:
        self._heartbeat.beat()
        self._stop.raise_if_overdue()

    @property
    def assigned(self) -> int:
        """The number of partitions that this consumer owns."""
        return len(self._assigned)

    @property
    def dependency_up(self) -> bool:
        """Whether the last attempt reached the database (or, in a service without one, the broker)."""
        return self._dependency.up

    def run(self) -> None:
        """Consume until told to stop; then finish the current batch, commit, and leave the group.

        Raises Fenced if another process has taken this one's place, TopicRecreated, and SessionTooShort.
        """
        self._membership.join()
        log.info("consuming", topics=sorted(self._handlers), consumer_id=settings.CONSUMER_ID or None)
        try:
            with self._gauges.measuring():
                while not self._stop:
                    self._heartbeat.beat()
                    self._run_once()
                    self._stop.keep_signals()
        except (Fenced, SessionTooShort, Overdue):
            raise
        except BaseException:
            self._crashes.mark_as_crash()
            raise
        finally:
            self._close()

    def _join(self) -> None:
        self._client.subscribe(
            sorted(self._handlers), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _run_once(self) -> None:
        if self._fetch():
            self._unread.check()
        if self._connectivity.found(self._client) and self._dependency is self._broker:
            # A transactional producer that lost its connections may hang in its next call, so replace it.
            self._transaction = self._open_transaction()
        now = time.monotonic()
        self._membership.raise_if_stranded(now)
        self._positions.check(now)
        if self._dependency is not self._broker:
            self._membership.leave_or_rejoin(now, self._dependency, self._triage.may_work)
        if self._may_work(now) and (batch := self._triage.take(now)):
            self._try_batch(batch)
            self._transaction.raise_if_unsure()
        self._commit(wait=False)
        self._pausing.update()
        self._topic_ids.raise_if_recreated()
        if not self._connectivity.in_doubt:
            self._lost.check(self._assigned)
        self._gauges.turned()

    # --- fetch ---

    def _fetch(self) -> bool:
        """Receive the records that have arrived; wait for one only if there is nothing else to do. Returns whether it received all.

        While the backlog has a full batch, an occasional poll is enough to serve rebalances. It may return one more record.
        """
        now = time.monotonic()
        self._intake.begin(self._backlog.fresh_bytes)
        room = settings.CONSUMER_BATCH_SIZE - self._backlog.fresh
        if not self._intake.chunk(room) and now - self._polled_at < IDLE_SECONDS and self._dependency.up:
            return False
        self._polled_at = now
        first = self._client.poll(self._poll_timeout(now))
        if first is None:
            return True
        self._receive(first)
        room -= 1
        while number := self._intake.chunk(room):
            messages = self._client.consume(number, 0)
            for message in messages:
                self._receive(message)
            if len(messages) < number:
                return True
            room -= number
        return False

    def _readable(self) -> set[Partition]:
        """The partitions that the client should be reading."""
        return self._assigned - self._pausing.paused - self._lost.not_read - self._positions.unknown

    def _poll_timeout(self, now: float) -> float:
        """How long to wait for the next record, in seconds; 0 if a record is ready to be processed."""
        if not self._dependency.may_try(now):
            return min(IDLE_SECONDS, self._dependency.next_try - now)
        if self._backlog.fresh:
            return 0.0
        due = self._triage.next_due()
        return IDLE_SECONDS if due is None else max(0.0, min(IDLE_SECONDS, due - now))

    def _receive(self, message: Message) -> None:
        error = message.error()
        if error is None:
            record = from_message(message)
            self._intake.received(record.size)
            self._lost.received(record.source, record.offset)
            self._positions.known((record.source,))
            self._crashes.received(record)
            self._backlog.add(record)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            partition = (str(message.topic()), int(message.partition() or 0))
            self._positions.known((partition,))
            self._lost.out_of_range(partition, int(message.offset() or 0))
        elif error.fatal() or error.code() in FENCED:
            raise Fenced(error.str())
        elif error.code() == KafkaError.INVALID_SESSION_TIMEOUT:
            raise SessionTooShort(error.str())
        elif error.code() != KafkaError._PARTITION_EOF:
            log.warning("fetch failed, will retry", code=error.name(), reason=error.str())

    # --- process ---

    def _may_work(self, now: float) -> bool:
        """Whether all dependencies are up, as far as is known. No Kafka transaction begins while the connection is in doubt."""
        in_doubt = self._connectivity.in_doubt and self._dependency is self._broker
        return not in_doubt and self._coordinator.may_try(now) and self._triage.may_work(now)

    def _try_batch(self, batch: list[Record]) -> None:
        """Process a batch, unless one of its records has crashed the process before: see crashes.py."""
        try:
            verdict = self._crashes.begin(batch)
        except DependencyDown as error:
            self._coordinator.failed(error)
            self._backlog.put_back(batch)
            return
        self._coordinator.answered()
        if verdict == "put back":
            self._backlog.put_back(batch)
        elif verdict == "dead-letter":
            crashes = self._crashes.crash_count(batch[0])
            cause = Crashed(f"the process crashed {crashes} times while it processed this event")
            self._triage.dead_letter(batch[0], cause, attempts=crashes)
        else:
            self._process(batch)
            self._crashes.end()

    def _process(self, batch: list[Record]) -> None:
        started = time.monotonic()
        terms = self._triage.terms(batch)
        try:
            result = self._transaction.process(batch, self._backlog.offsets(assuming=batch), terms)
        except Exception as error:  # noqa: BLE001  a handler may raise anything; only Fenced ends the loop
            self._triage.failed(batch, error, time.monotonic() - started)
        else:
            self._after_success(batch, result, time.monotonic() - started)

    def _after_success(self, batch: list[Record], result: BatchResult, seconds: float) -> None:
        self._triage.succeeded(batch, result, seconds)
        counting.count(batch, result, seconds)
        log_all("info", __name__, "event handled", map(_log_fields, result.handled))
        for record in result.duplicates:
            log.info("duplicate event skipped", **record.log_fields())

    # --- offsets ---

    def _commit(self, *, wait: bool) -> None:
        offsets = self._backlog.offsets()
        if not offsets:
            return
        try:
            self._transaction.commit(offsets, wait=wait)
        except KafkaException as error:
            # Not an error: a record that is delivered again is recognised by the inbox.
            log.warning("offsets not committed", reason=str(error))
        else:
            self._backlog.committed(offsets)

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """Handle the result of an asynchronous commit. A commit that a rebalance rejected is repeated in the next iteration.

        Otherwise a partition that receives no more events would keep its lag.
        """
        failed = [p for p in offsets if error or p.error]
        if failed:
            reason = error or failed[0].error
            log.debug("offsets not committed, will retry", code=reason.name() if reason else "", count=len(failed))
            self._backlog.not_committed((p.topic, p.partition) for p in failed)

    # --- rebalances ---

    def _on_assign(self, _: Any, partitions: list[TopicPartition]) -> None:
        assigned = {(p.topic, p.partition) for p in partitions}
        self._assigned |= assigned
        self._positions.assign(partitions)
        self._membership.joined()
        self._count_rebalance("assigned", assigned)

    def _offsets_found(self, committed: list[TopicPartition]) -> list[TopicPartition]:
        """Note the group's committed offsets in assigned partitions. Returns those at which to start."""
        self._topic_ids.learn({one.topic for one in committed})
        found = self._topic_ids.without_stale(committed)
        self._crashes.assigned(found)
        self._lost.assigned(found)
        for one in found:
            if one.offset >= 0:
                self._backlog.begin((one.topic, one.partition), one.offset)
        return found

    def _on_revoke(self, _: Any, partitions: list[TopicPartition]) -> None:
        """Commit finished records before another consumer takes over; drop the others, which it receives again."""
        self._commit(wait=True)
        self._crashes.leave((p.topic, p.partition) for p in partitions)
        self._release("revoked", partitions)

    def _on_lost(self, _: Any, partitions: list[TopicPartition]) -> None:
        """Drop the partitions without a commit: another consumer already owns them, and its offsets must not be overwritten."""
        self._membership.lost()
        self._release("lost", partitions)

    def _release(self, kind: str, partitions: list[TopicPartition]) -> None:
        gone = {(p.topic, p.partition) for p in partitions}
        self._pausing.forget(gone)
        self._backlog.drop(gone)
        self._crashes.forget(gone)
        self._lost.forget(gone)
        self._positions.known(gone)
        self._assigned -= gone
        self._gauges.forget(gone)
        self._triage.forget({topic for topic, _ in gone} - {topic for topic, _ in self._assigned})
        if not len(self._backlog):
            self._dead_letters.forget()
            self._coordinator.forget()
            if not self._dependency.confirmed_down and (
                not self._connectivity.in_doubt or self._dependency is not self._broker
            ):
                self._dependency.forget()
        self._count_rebalance(kind, gone)

    def _count_rebalance(self, kind: str, partitions: set[Partition]) -> None:
        metrics.CONSUMER_REBALANCES.labels(kind).inc()
        metrics.CONSUMER_ASSIGNED.set(len(self._assigned))
        log.info(f"partitions {kind}", partitions=sorted(f"{topic}/{number}" for topic, number in partitions))

    # --- shutdown ---

    def _close(self) -> None:
        """Commit and leave the group."""
        self._commit(wait=True)
        self._membership.end()
        self._unread.close()


def _log_fields(pair: tuple[Record, Received[Any]]) -> dict[str, Any]:
    """The log fields of a processed event."""
    record, received = pair
    position = received.trace
    return {
        **record.log_place(),
        "request_id": received.request_id,
        "trace_id": position.trace_id,
        "span_id": position.span_id,
    }
