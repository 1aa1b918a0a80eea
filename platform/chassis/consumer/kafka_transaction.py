"""A batch in one Kafka transaction: what its handlers publish, its dead letters, and its offsets. For a service without a database."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from chassis.consumer import dispatch, orphaned_transactions
from chassis.consumer.dispatch import Handlers
from chassis.consumer.kafka_publisher import collecting
from chassis.consumer.unit_of_work import USUAL, Offsets, Outcome, Tagged, Terms, untagged
from chassis.deadletters import record as deadletters
from chassis.deadletters.record import DeadLetter, topic_of
from chassis.events.envelope import Envelope
from chassis.kafka import clients, sizes
from chassis.kafka.errors import Fenced, Unsure
from chassis.kafka.records import Headers, Record
from chassis.runtime.failures import DependencyDown, Refused, Unburied
from chassis.runtime.watchdog import Watchdog

CALL_SECONDS = 2.0
"""How long one call into the transaction may take before the loop looks up again."""

HUNG_SECONDS = 8.0
"""How long such a call may take although it was told CALL_SECONDS. librdkafka's send_offsets_to_transaction can hang for
ever when the connection is lost in it (its issue 5456): only another process, with the same transactional.id, can go on."""

NEVER_SEEN: list[tuple[str, str | bytes | None]] = [("never-committed", b"ends a transaction that hung")]
"""Headers of a record whose transaction is always aborted: only a reader of uncommitted records meets it."""

log = structlog.get_logger(__name__)


def _check(envelopes: Sequence[Envelope]) -> None:
    """What is larger than its readers accept is not written. Raises Refused."""
    for one in envelopes:
        size = len(one.key.encode()) + len(one.payload) + sum(len(name) + len(value) for name, value in one.headers)
        if size > sizes.largest_event():
            raise Refused(f"MSG_SIZE_TOO_LARGE: {size} bytes; KAFKA_MAX_MESSAGE_BYTES is {sizes.largest_event()}")


class KafkaTransaction:
    """For a service without a database.

    Handlers run first and only collect; the transaction is opened when all is known, so it is short however long they take.
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
        self._producer = producer
        self._handlers = handlers
        self._beat = beat
        self._watchdog = Watchdog("a step of a Kafka transaction", HUNG_SECONDS)
        self._repeated = False
        self._shortened: set[str] = set()
        """Dead letters that were too large with their error and traceback."""

    def process(self, batch: Sequence[Record], offsets: Offsets, terms: Terms = USUAL) -> Outcome:
        """Handle a batch, then write what it published, its dead letters and its offsets together."""
        mine, others = dispatch.ours(batch)
        letters, dead = dispatch.read(mine, self._handlers)
        terms.check(letters, dead)
        with dispatch.traced(letters) as received:
            with collecting() as envelopes:
                dispatch.call(received, self._handlers, terms.limit)
                _check(envelopes)
            with self._transaction(offsets):
                for envelope in envelopes:
                    self._produce(envelope.topic, envelope.key.encode(), envelope.payload, envelope.headers)
                self._bury(dead)
        self._shortened.difference_update(letter.id for letter in dead)
        return Outcome(received, others, dead)

    def bury(self, letter: DeadLetter, offsets: Offsets) -> None:
        """Write one dead letter, with the offsets that follow from it."""
        with self._transaction(offsets):
            self._bury([letter])
        self._shortened.discard(letter.id)

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Nothing to do: offsets are committed with the work, in `process` and `bury`."""

    def probe(self) -> None:
        """Ask the broker for something small. Raises KafkaException."""
        self._consumer.list_topics(clients.ANY_TOPIC, timeout=CALL_SECONDS)

    def reset(self, error: BaseException) -> None:
        """Nothing to do: a failed transaction was aborted when it failed."""

    def raise_if_unsure(self) -> None:
        """Raise Unsure when the broker had to be asked twice to end the last transaction: it may have forgotten to."""
        if self._repeated:
            raise Unsure("the broker was away while a transaction ended")

    def end_what_hangs(self) -> None:
        """End what an earlier transaction of this producer's has left open; to be called before the first transaction.

        Raises Fenced, and KafkaException or DependencyDown when the broker does not answer.
        """
        client = clients.admin()
        open_places = orphaned_transactions.partitions(client, self._handlers)
        held_back = orphaned_transactions.offsets(client, self._handlers)
        if not open_places and not held_back:
            return
        self._producer.begin_transaction()
        try:
            for topic, number in open_places:
                self._produce(topic, None, None, NEVER_SEEN, number)
            while clients.flush(self._producer, CALL_SECONDS):
                self._beat()
            if held_back:
                self._touch_offsets()
        except KafkaException as exception:
            if exception.args[0].fatal():
                raise Fenced(exception.args[0].str()) from exception
            raise
        finally:
            self._abort()
        log.warning(
            "ended what an earlier transaction may have left open",
            partitions=sorted(f"{topic}/{number}" for topic, number in open_places),
            offsets=held_back,
        )

    def _touch_offsets(self) -> None:
        """Send an offset, as one who is no member of the group: this worker has not joined yet."""
        outsider = clients.reader()
        try:
            member = outsider.consumer_group_metadata()
            positions = [TopicPartition(min(self._handlers), 0, 0)]
            self._insist(lambda: self._producer.send_offsets_to_transaction(positions, member, CALL_SECONDS))
        finally:
            outsider.close()

    def _bury(self, letters: Sequence[DeadLetter]) -> None:
        """Write dead letters, and wait for the answer: it says whether they, or all the rest, hold up the transaction.

        Raises Unburied. One that is too large is written without its diagnostics in the next transaction that it is in.
        """
        refused: list[str] = []

        def done(letter: DeadLetter, error: KafkaError | None, _: Message | None) -> None:
            if error is not None and error.code() in clients.TOPIC_REFUSES:
                refused.append(f"{error.name()}: {error.str()}")
                if error.code() in clients.REFUSED_FOR_GOOD:
                    self._shortened.add(letter.id)

        for letter in letters:
            record, headers = letter.record, self._headers(letter)
            try:
                self._produce(topic_of(record.topic), record.key, record.value, headers, done=partial(done, letter))
            except KafkaException as exception:
                done(letter, exception.args[0], None)
                if not refused:
                    raise
            except clients.UNWRITABLE as error:
                refused.append(f"no Kafka record: {type(error).__name__}: {error}")
        while letters and not refused and clients.flush(self._producer, CALL_SECONDS):
            self._beat()
        if refused:
            topics = ", ".join(sorted({topic_of(letter.record.topic) for letter in letters}))
            raise Unburied(f"{topics}: {refused[0]}")

    def _headers(self, letter: DeadLetter) -> Headers:
        headers = letter.headers()
        return deadletters.without_diagnostics(headers) if letter.id in self._shortened else headers

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, str | bytes | None]],
        partition: int = -1,
        done: Callable[[KafkaError | None, Message | None], None] | None = None,
    ) -> None:
        checked = clients.checked(headers)
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=checked, on_delivery=done)
            except BufferError:
                self._producer.poll(0.1)
                self._beat()
            else:
                return

    @contextmanager
    def _transaction(self, offsets: Offsets) -> Iterator[None]:
        try:
            self._producer.begin_transaction()
            yield
            positions = self._tagged(offsets)
            member = self._consumer.consumer_group_metadata()
            if positions:
                self._insist(lambda: self._producer.send_offsets_to_transaction(positions, member, CALL_SECONDS))
            self._insist(lambda: self._producer.commit_transaction(CALL_SECONDS), ends=True)
        except KafkaException as exception:
            error = exception.args[0]
            if error.fatal():
                raise Fenced(error.str()) from exception
            self._abort()
            if error.code() in clients.REFUSED_FOR_GOOD:
                raise Refused(f"{error.name()}: {error.str()}") from exception
            raise DependencyDown(error.str()) from exception
        except BaseException:
            self._abort()
            raise

    def _insist(self, step: Callable[[], None], *, ends: bool = False) -> None:
        """Repeat a step that only timed out: its outcome is open until it says yes or no. `ends`: it ends the transaction."""
        while True:
            self._beat()
            try:
                with self._watchdog:
                    return step()
            except KafkaException as exception:
                error = exception.args[0]
                if error.fatal() or error.txn_requires_abort() or not error.retriable():
                    raise
                self._repeated |= ends

    def _abort(self) -> None:
        try:
            self._insist(lambda: self._producer.abort_transaction(CALL_SECONDS), ends=True)
        except KafkaException as exception:
            raise Fenced(exception.args[0].str()) from exception
