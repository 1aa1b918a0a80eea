"""The consumer: one loop that fetches, tries what is ready in one transaction, and commits offsets up to what is done."""

import time
from collections import Counter
from typing import Any

import structlog
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from django.conf import settings

from chassis.database.failures import is_statement_timeout
from chassis.messaging import gauges, kafka, lost_events
from chassis.messaging.backlog import Backlog
from chassis.messaging.crashes import CrashGuard
from chassis.messaging.database_transaction import DatabaseTransaction
from chassis.messaging.deadletters import DeadLetter
from chassis.messaging.dependency import Dependency
from chassis.messaging.failures import Crashed, DependencyDown, Unburied, is_dependency
from chassis.messaging.handling import Handlers
from chassis.messaging.intake import Intake
from chassis.messaging.kafka_transaction import Fenced, KafkaTransaction
from chassis.messaging.loop import Heartbeat, Stop
from chassis.messaging.lost_events import LostEvents
from chassis.messaging.outcome import Outcome, Transaction
from chassis.messaging.pausing import Measure, decide
from chassis.messaging.reach import Reach
from chassis.messaging.records import Partition, Record, from_message
from chassis.messaging.registry import Received
from chassis.messaging.registry import handlers as registered
from chassis.messaging.retries import service_policy
from chassis.messaging.watchdog import Watchdog
from chassis.observability import metrics, tracing
from chassis.observability.logging import info_all

log = structlog.get_logger(__name__)

IDLE_SECONDS = 0.5
"""Longest wait for a record: how long a stop may go unnoticed in an idle loop."""

BEHIND_SECONDS = 0.1
"""So much later than all others a record is tried whose failure may be its own: whether they get through is what tells."""

LEAVE_SECONDS = 12.0
"""How long leaving the group may take, with a broker that does not answer too. A call that had begun when the broker went can
hang in the Kafka client for ever; then only a new process can go on."""

SPAN_FACTOR = 20
"""Partitions are paused, too, when this many times CONSUMER_HELD_EVENTS offsets lie behind oldest unfinished ones."""

ASSIGN_SECONDS = 1.0
"""How long an assignment may wait for the offsets that the group has committed."""

FENCED = frozenset({KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID})
"""This client will never deliver anything again. `error.fatal()` alone does not tell: of an error that a poll delivers it is
False even for _FATAL, which is what a static member hears whose group a broker that was killed has forgotten."""


class SessionTooShort(Exception):
    """The broker allows no session as short as CONSUMER_SESSION_TIMEOUT_SECONDS: its group.min.session.timeout.ms is longer."""


class Consumer:
    """A long-lived member of the service's consumer group.

    One turn of the loop is `fetch`, `work`, `commit`. Nothing else runs beside it: rebalances are served inside `fetch`,
    never in the middle of a transaction.
    """

    def __init__(self, stop: Stop, heartbeat: Heartbeat, *, accept_lost: bool = False) -> None:
        self._handlers: Handlers = registered()
        self._stop = stop
        self._heartbeat = heartbeat
        self._policy = service_policy()
        self._backlog = Backlog()
        self._broker = Dependency("broker")
        self._reach = Reach(self._broker)
        self._client: KafkaConsumer = kafka.consumer(error_cb=self._reach.on_error, on_commit=self._on_commit)
        self._crashes = CrashGuard(self._client, self._backlog)
        self._lost = LostEvents(self._client, heartbeat, accept=accept_lost)
        self._intake = Intake(settings.CONSUMER_BATCH_BYTES)
        self._dependency = Dependency("database") if settings.SERVICE_DATABASE else self._broker
        self._dead_letters = Dependency("dead-letter topic", part="broker")
        heartbeat.watch(self._broker, self._dependency, self._dead_letters)
        self._transaction = self._open_transaction()
        self._assigned: set[Partition] = set()
        self._paused: frozenset[Partition] = frozenset()
        self._polled_at = 0.0
        self._clock = gauges.Clock()

    def _open_transaction(self) -> Transaction:
        if settings.SERVICE_DATABASE:
            return DatabaseTransaction(self._client, self._handlers)
        producer = kafka.open_transactional(self._check, self._broker)
        transaction = KafkaTransaction(self._client, producer, self._handlers, self._check)
        kafka.until_answered(transaction.end_what_hangs, self._check, self._broker)
        return transaction

    def _check(self) -> None:
        self._heartbeat.beat()
        self._stop.raise_if_overdue()

    @property
    def assigned(self) -> int:
        """How many partitions this consumer owns."""
        return len(self._assigned)

    @property
    def dependency_up(self) -> bool:
        """Whether the last try reached the database (or, without one, the broker)."""
        return self._dependency.up

    def run(self) -> None:
        """Turn until told to stop; then finish what is in hand, commit, and leave the group.

        Raises Fenced when another process has taken this one's place, and SessionTooShort.
        """
        self._client.subscribe(
            sorted(self._handlers), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        log.info("consuming", topics=sorted(self._handlers), consumer_id=settings.CONSUMER_ID or None)
        try:
            while not self._stop:
                self._heartbeat.beat()
                self._turn()
        finally:
            self._close()

    def _turn(self) -> None:
        self._fetch()
        if self._reach.found(self._client) and self._dependency is self._broker:
            # A call of a transactional producer that has lost its connections may hang; a new one has lost none.
            self._transaction = self._open_transaction()
        now = time.monotonic()
        if self._may_work(now) and (batch := self._take(now)):
            self._try(batch)
            self._transaction.raise_if_unsure()
        self._commit(wait=False)
        self._pause_or_resume()
        if not self._reach.in_doubt:
            self._lost.look(self._assigned)
        if self._clock.rings():
            gauges.measure_consumer(self._client, self._assigned, self._backlog)

    # --- fetch ---

    def _fetch(self) -> None:
        """Take in what has arrived; wait for it only when there is nothing else to do.

        While a full batch is waiting, one poll now and then is enough to serve rebalances; it may bring one more record.
        """
        now = time.monotonic()
        self._intake.begin(self._backlog.fresh_bytes)
        room = settings.CONSUMER_BATCH_SIZE - self._backlog.fresh
        if not self._intake.chunk(room) and now - self._polled_at < IDLE_SECONDS and self._dependency.up:
            return
        self._polled_at = now
        first = self._client.poll(self._patience(now))
        if first is None:
            return
        self._receive(first)
        room -= 1
        while number := self._intake.chunk(room):
            messages = self._client.consume(number, 0)
            for message in messages:
                self._receive(message)
            if len(messages) < number:
                break
            room -= number

    def _patience(self, now: float) -> float:
        """How long to wait for the next record, in seconds: not at all when something is ready to be tried."""
        if not self._dependency.may_try(now):
            return min(IDLE_SECONDS, self._dependency.next_try - now)
        if self._backlog.fresh:
            return 0.0
        due = self._backlog.next_due()
        return IDLE_SECONDS if due is None else max(0.0, min(IDLE_SECONDS, due - now))

    def _receive(self, message: Message) -> None:
        error = message.error()
        if error is None:
            record = from_message(message)
            self._intake.saw(record.size)
            self._lost.received(record.source, record.offset)
            self._crashes.received(record)
            self._backlog.add(record)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._lost.out_of_range((str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0))
        elif error.fatal() or error.code() in FENCED:
            raise Fenced(error.str())
        elif error.code() == KafkaError.INVALID_SESSION_TIMEOUT:
            raise SessionTooShort(error.str())
        elif error.code() != KafkaError._PARTITION_EOF:
            log.warning("fetch failed, will go on", code=error.name(), reason=error.str())

    # --- work ---

    def _may_work(self, now: float) -> bool:
        """Whether what the work needs is there, as far as is known. No Kafka transaction begins while the link is in doubt."""
        in_doubt = self._reach.in_doubt and self._dependency is self._broker
        return not in_doubt and self._dependency.may_try(now)

    def _take(self, now: float) -> list[Record]:
        return self._backlog.take(settings.CONSUMER_BATCH_SIZE, now, settings.CONSUMER_BATCH_BYTES)

    def _try(self, batch: list[Record]) -> None:
        """Work on a batch, unless one of its records ended the process before: see crashes.py."""
        try:
            verdict = self._crashes.begin(batch)
        except DependencyDown as error:
            self._after_failure(batch, error)
            return
        if verdict == "put back":
            self._backlog.put_back(batch)
        elif verdict == "bury":
            ends = self._crashes.unclean_ends(batch[0])
            why = Crashed(f"the process ended without a word {ends} times while it handled this event")
            self._bury(DeadLetter(batch[0], why, ends))
        else:
            self._work(batch)
            self._crashes.end()

    def _work(self, batch: list[Record]) -> None:
        started = time.perf_counter()
        try:
            outcome = self._transaction.process(batch, self._backlog.offsets(assuming=batch))
        except Exception as error:  # noqa: BLE001  a handler may raise anything; nothing may end the loop but Fenced
            self._after_failure(batch, error)
        else:
            self._after_success(batch, outcome, time.perf_counter() - started)

    def _after_success(self, batch: list[Record], outcome: Outcome, seconds: float) -> None:
        self._dependency.answered()
        if outcome.dead:
            self._dead_letters.answered()
        self._backlog.finish(batch)
        metrics.EVENTS_BATCH_SIZE.observe(len(batch))
        metrics.EVENTS_BATCH_SECONDS.observe(seconds)
        now = time.time()
        for record, _ in outcome.handled:
            metrics.EVENTS_DELAY.labels(record.topic).observe(max(0.0, now - record.timestamp_ms / 1000))
        for topic, number in Counter(record.topic for record, _ in outcome.handled).items():
            metrics.EVENTS_CONSUMED.labels(topic).inc(number)
        info_all(__name__, "event handled", map(_handled, outcome.handled))
        for record in outcome.repeated:
            metrics.EVENTS_DUPLICATE.labels(record.topic).inc()
            log.info("event repeated, nothing done", request_id=record.header("requestId"), **record.log_fields())
        for letter in outcome.dead:
            self._log_death(letter)

    def _after_failure(self, batch: list[Record], error: Exception) -> None:
        if isinstance(error, Fenced):
            raise error
        self._transaction.reset(error)
        if is_dependency(error):
            self._wait_for(self._dependency, error)
            self._backlog.put_back(batch)
        elif len(batch) > 1:
            if is_statement_timeout(error):
                self._wait_for(self._dependency, error)
            self._backlog.split(batch)
        elif isinstance(error, Unburied):
            self._hold(batch[0], self._dead_letters, error)
        elif is_statement_timeout(error) and self._dependency.answered_at <= batch[0].failed_at:
            # Nothing else got through since this one last failed, so the database is slow, and not the event.
            self._hold(batch[0], self._dependency, error)
        else:
            self._retry_or_bury(batch[0], error)

    def _wait_for(self, dependency: Dependency, error: Exception) -> None:
        metrics.EVENTS_DEPENDENCY_WAITS.labels(dependency.part).inc()
        dependency.failed(error)

    def _hold(self, record: Record, dependency: Dependency, error: Exception) -> None:
        """Try a record again a little after the dependency may be, and what is ready before it: it costs the record nothing."""
        self._wait_for(dependency, error)
        record.failed_at = time.monotonic()
        self._backlog.fail(record, dependency.next_try + BEHIND_SECONDS)

    def _retry_or_bury(self, record: Record, error: Exception) -> None:
        record.attempts += 1
        record.failed_at = time.monotonic()
        letter = DeadLetter(record, error, record.attempts)
        metrics.EVENTS_FAILED.labels(record.topic, letter.reason).inc()
        policy = self._handlers[record.topic].retry or self._policy
        delay = policy.delay(record.attempts)
        fields = {"request_id": record.header("requestId"), "attempt": record.attempts, **record.log_fields()}
        if delay is None:
            self._bury(letter)
            return
        log.warning("event failed, will try again", retry_in=round(delay, 3), exc_info=error, **fields)
        metrics.EVENTS_RETRIED.labels(record.topic).inc()
        self._backlog.fail(record, time.monotonic() + delay)

    def _bury(self, letter: DeadLetter) -> None:
        record = letter.record
        try:
            self._transaction.bury(letter, self._backlog.offsets(assuming=[record]))
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001  wherever it cannot be written: it waits, it is never dropped
            self._transaction.reset(error)
            record.attempts -= 1
            self._hold(record, self._dependency if is_dependency(error) else self._dead_letters, error)
        else:
            self._dead_letters.answered()
            self._backlog.finish([record])
            self._log_death(letter)

    def _log_death(self, letter: DeadLetter) -> None:
        record = letter.record
        metrics.EVENTS_DEAD_LETTERED.labels(record.topic, letter.reason).inc()
        log.error(
            "event dead-lettered",
            reason=letter.reason,
            attempts=letter.attempts,
            request_id=record.header("requestId"),
            exc_info=letter.error,
            **record.log_fields(),
        )

    # --- offsets ---

    def _commit(self, *, wait: bool) -> None:
        offsets = self._backlog.offsets()
        if not offsets:
            return
        try:
            self._transaction.commit(offsets, wait=wait)
        except KafkaException as error:
            # A repeat is harmless, the inbox knows it; so an offset that could not be committed stops nothing.
            log.warning("offsets not committed", reason=str(error))
        else:
            self._backlog.committed(offsets)

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """What became of a commit that nobody waited for: one that met a rebalance is refused, and the next turn repeats it.

        Else a partition that gets no more events would keep its lag for ever.
        """
        failed = [p for p in offsets if error or p.error]
        if failed:
            reason = error or failed[0].error
            log.debug("offsets not committed, will be again", code=reason.name() if reason else "", count=len(failed))
            self._backlog.not_committed((p.topic, p.partition) for p in failed)

    def _pause_or_resume(self) -> None:
        """Stop fetching partitions while too much waits behind failing events; pausing.py says which."""
        events, backlog = settings.CONSUMER_HELD_EVENTS, self._backlog
        if not (self._paused or backlog.held_events):
            return
        measures = (
            Measure(events, backlog.held_events),
            Measure(settings.CONSUMER_HELD_BYTES, backlog.held_bytes),
            Measure(events * SPAN_FACTOR, backlog.spans),
        )
        wanted = decide(self._paused, measures)
        for topic, number in wanted - self._paused:
            self._client.pause([TopicPartition(topic, number)])
            log.warning("partition paused: too much waits behind failing events", topic=topic, partition=number)
        for topic, number in self._paused - wanted:
            self._client.resume([TopicPartition(topic, number)])
            log.info("partition resumed", topic=topic, partition=number)
        self._paused = wanted
        metrics.CONSUMER_PAUSED.set(len(wanted))

    # --- rebalances ---

    def _on_assign(self, _: Any, partitions: list[TopicPartition]) -> None:
        ours = {(p.topic, p.partition) for p in partitions}
        self._assigned |= ours
        self._begin(partitions)
        self._heartbeat.joined.set()
        self._count_rebalance("assigned", ours)

    def _begin(self, partitions: list[TopicPartition]) -> None:
        """Begin where the group stands. What the broker does not tell in time the client asks for by itself."""
        try:
            told = self._client.committed(partitions, timeout=ASSIGN_SECONDS) if partitions else []
        except KafkaException as error:
            log.debug("committed offsets are not known yet", reason=str(error))
            told = []
        found = [one for one in told if one.error is None]
        self._crashes.assigned(found)
        self._lost.assigned(found)
        committed = {(one.topic, one.partition): one.offset for one in found}
        self._client.incremental_assign(lost_events.starts(partitions, committed))

    def _on_revoke(self, _: Any, partitions: list[TopicPartition]) -> None:
        """What is done is committed before another takes over; what is not is dropped, and will be delivered there."""
        self._commit(wait=True)
        self._crashes.leave((p.topic, p.partition) for p in partitions)
        self._let_go("revoked", partitions)

    def _on_lost(self, _: Any, partitions: list[TopicPartition]) -> None:
        """Another consumer owns them already: committing now would overwrite its offsets."""
        self._let_go("lost", partitions)

    def _let_go(self, kind: str, partitions: list[TopicPartition]) -> None:
        gone = {(p.topic, p.partition) for p in partitions}
        if stuck := self._paused & gone:
            # librdkafka keeps the mark: should a paused partition come back here one day, it would stand still for ever.
            self._client.resume([TopicPartition(*partition) for partition in stuck])
        self._backlog.drop(gone)
        self._crashes.forget(gone)
        self._lost.forget(gone)
        gauges.forget_consumer(gone)
        self._assigned -= gone
        self._paused -= gone
        if not len(self._backlog):
            self._dead_letters.forget()
            if not self._reach.in_doubt or self._dependency is not self._broker:
                self._dependency.forget()
        self._count_rebalance(kind, gone)

    def _count_rebalance(self, kind: str, partitions: set[Partition]) -> None:
        metrics.CONSUMER_REBALANCES.labels(kind).inc()
        metrics.CONSUMER_ASSIGNED.set(len(self._assigned))
        log.info(f"partitions {kind}", partitions=sorted(f"{topic}/{number}" for topic, number in partitions))

    # --- the end ---

    def _close(self) -> None:
        """Commit and leave the group.

        `unsubscribe` first: a static member that only closes stays in the group until its session ends, and its
        partitions would stand still that long.
        """
        self._commit(wait=True)
        with Watchdog("leaving the group", LEAVE_SECONDS):
            try:
                self._client.unsubscribe()
            except KafkaException as error:
                # A fenced member cannot leave: it is none any more. What ended the loop must not be hidden by that.
                log.debug("could not unsubscribe", reason=str(error))
            deadline = time.monotonic() + 3.0
            while self._assigned and time.monotonic() < deadline:
                self._client.poll(0.1)
            self._client.close()
        log.info("left the group")


def _handled(pair: tuple[Record, Received[Any]]) -> dict[str, Any]:
    """What the log says of an event that was handled."""
    record, received = pair
    trace_id, span_id = tracing.current_ids(received.context)
    return {**record.log_fields(), "request_id": received.request_id, "trace_id": trace_id, "span_id": span_id}
