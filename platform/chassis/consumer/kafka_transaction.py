"""A batch in one Kafka transaction: the events that its handlers publish, its dead letters, and its offsets."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from chassis.consumer import dispatch, orphaned_transactions, process_spans
from chassis.consumer.dispatch import Handlers
from chassis.consumer.kafka_publisher import collecting
from chassis.consumer.unit_of_work import USUAL, BatchResult, Offsets, Tagged, Terms, untagged
from chassis.deadletters import record as deadletters
from chassis.deadletters.record import FailedRecord
from chassis.events.envelope import Envelope
from chassis.kafka import clients, names, send_spans, sizes
from chassis.kafka.patience import Endless
from chassis.kafka.records import Headers, Record
from chassis.kafka.transactional_producer import CALL_SECONDS, TransactionalProducer
from chassis.observability import tracing
from chassis.runtime.failures import DeadLetterRefused, DependencyDown, EventRefused
from chassis.runtime.watchdog import Watchdog

HUNG_SECONDS = 8.0
"""How long a call may take in spite of its timeout, CALL_SECONDS. librdkafka's send_offsets_to_transaction can hang forever
if the connection is lost during the call (its issue 5456). Only another process with the same transactional.id can continue."""

HEADERS_SIZE = 32_768
"""More than the headers of an event ever take, so that only those of large events are measured."""

NEVER_COMMITTED: list[tuple[str, str | bytes | None]] = [("never-committed", b"ends a hanging transaction")]
"""Headers of a record whose transaction is always aborted; only readers of uncommitted records see it."""

log = structlog.get_logger(__name__)


def _check(envelopes: Sequence[Envelope]) -> None:
    """Check the size of these events. Raises EventRefused if one is larger than its readers accept."""
    most = sizes.largest_event()
    for one in envelopes:
        size = 4 * len(one.key) + len(one.payload) + HEADERS_SIZE
        if size > most:
            size = len(one.key.encode()) + len(one.payload) + sum(len(name) + len(value) for name, value in one.headers)
        if size > most:
            raise EventRefused(f"MSG_SIZE_TOO_LARGE: {size} bytes; KAFKA_MAX_MESSAGE_BYTES is {most}")


def _trace_sent(envelopes: Sequence[Envelope], begun: int) -> None:
    """Record that these events were sent, between `begun` and now."""
    if not tracing.is_recording():
        return
    ended = time.time_ns()
    for one in envelopes:
        if (parent := send_spans.parent_of(one.headers)) is not None:
            key = {"messaging.kafka.message.key": one.key}
            send_spans.sent(one.topic, one.event_id, parent, begun=begun, ended=ended, attributes=key)


class KafkaTransaction:
    """For a service without a database.

    Handlers run first, and their events are only collected. The transaction is opened afterwards, so that it is short however
    long the handlers take.
    """

    def __init__(
        self,
        consumer: Consumer,
        producer: Producer,
        handlers: Handlers,
        beat: Callable[[], None],
        tagged: Tagged = untagged,
    ) -> None:
        self._tagged = tagged
        self._consumer = consumer
        watchdog = Watchdog("a step of a Kafka transaction", HUNG_SECONDS)
        self._producer = TransactionalProducer(producer, Endless(beat, clients.raise_if_stranded), watchdog)
        self._handlers = handlers
        self._shortened: set[str] = set()
        """Dead letters that were too large with their error and traceback."""

    def process(self, batch: Sequence[Record], offsets: Offsets, terms: Terms = USUAL) -> BatchResult:
        """Process a batch, then write its events, its dead letters and its offsets in one transaction."""
        mine, others = dispatch.for_this_group(batch)
        readable, dead = dispatch.read(mine, self._handlers)
        terms.check(readable, dead)
        with process_spans.traced(readable) as received:
            with collecting() as collected:
                dispatch.call(received, self._handlers, terms.limit)
                _check(collected.envelopes)
            begun = time.time_ns()
            with self._transaction(offsets):
                for envelope in collected.envelopes:
                    self._producer.produce(envelope.topic, envelope.key.encode(), envelope.payload, envelope.headers)
                self._write_dead_letters(dead)
            collected.committed()
            _trace_sent(collected.envelopes, begun)
        self._shortened.difference_update(failed.id for failed in dead)
        return BatchResult(received, others, dead)

    def dead_letter(self, failed: FailedRecord, offsets: Offsets) -> None:
        """Write one dead letter and the offsets in one transaction."""
        with self._transaction(offsets):
            self._write_dead_letters([failed])
        self._shortened.discard(failed.id)

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Nothing to do: offsets are committed with the work, in `process` and `dead_letter`."""

    def probe(self) -> None:
        """Send a small request to the broker. Raises KafkaException."""
        self._consumer.list_topics(clients.ANY_TOPIC, timeout=CALL_SECONDS)

    def reset(self, error: BaseException) -> None:
        """Nothing to do: a failed transaction is already aborted."""

    def raise_if_unsure(self) -> None:
        """Raise Unsure if ending the last transaction required a second request: the broker may have left it open."""
        self._producer.raise_if_unsure()

    def end_hanging_transactions(self) -> None:
        """End the transactions that an earlier producer with this id left open. Call it before the first transaction.

        Raises Fenced, and KafkaException or DependencyDown if the broker does not respond.
        """
        client = clients.admin()
        open_partitions = orphaned_transactions.partitions(client, self._handlers)
        held_back = orphaned_transactions.offsets(client, self._handlers)
        if not open_partitions and not held_back:
            return
        with self._producer.aborted_transaction():
            for topic, number in open_partitions:
                self._producer.produce(topic, None, None, NEVER_COMMITTED, number)
            self._producer.flush()
            if held_back:
                self._send_offsets_outside_group()
        log.warning(
            "ended transactions that an earlier process may have left open",
            partitions=sorted(f"{topic}/{number}" for topic, number in open_partitions),
            offsets=held_back,
        )

    def _send_offsets_outside_group(self) -> None:
        """Send an offset as a client outside the group, which this worker has not joined yet."""
        outsider = clients.reader()
        try:
            positions = [TopicPartition(min(self._handlers), 0, 0)]
            self._producer.send_offsets(positions, outsider.consumer_group_metadata())
        finally:
            outsider.close()

    def _write_dead_letters(self, dead: Sequence[FailedRecord]) -> None:
        """Write dead letters and wait for the result, which shows whether they are the cause if the transaction fails.

        Raises DeadLetterRefused. A dead letter that is too large is written without its diagnostics in the next attempt.
        """
        refused: list[str] = []

        def done(failed: FailedRecord, error: KafkaError | None, _: Message | None) -> None:
            if error is not None and error.code() in clients.TOPIC_ERRORS:
                refused.append(f"{error.name()}: {error.str()}")
                if error.code() in clients.PERMANENT_ERRORS:
                    self._shortened.add(failed.id)

        for failed in dead:
            record, headers = failed.record, self._headers(failed)
            try:
                self._producer.produce(
                    names.dead_letter_topic(record.topic),
                    record.key,
                    record.value,
                    headers,
                    on_delivery=partial(done, failed),
                )
            except KafkaException as exception:
                done(failed, exception.args[0], None)
                if not refused:
                    raise
            except clients.UNWRITABLE as error:
                refused.append(f"not a valid Kafka record: {type(error).__name__}: {error}")
        if dead:
            self._producer.flush(enough=lambda: bool(refused))
        if refused:
            topics = ", ".join(sorted({names.dead_letter_topic(failed.record.topic) for failed in dead}))
            raise DeadLetterRefused(f"{topics}: {refused[0]}")

    def _headers(self, failed: FailedRecord) -> Headers:
        headers = failed.headers()
        return deadletters.without_diagnostics(headers) if failed.id in self._shortened else headers

    @contextmanager
    def _transaction(self, offsets: Offsets) -> Iterator[None]:
        try:
            with self._producer.transaction():
                yield
                if positions := self._tagged(offsets):
                    self._producer.send_offsets(positions, self._consumer.consumer_group_metadata())
        except KafkaException as exception:
            error = exception.args[0]
            if error.code() in clients.PERMANENT_ERRORS:
                raise EventRefused(f"{error.name()}: {error.str()}") from exception
            raise DependencyDown(error.str()) from exception
