"""Sending outbox rows to Kafka, and collecting the result of each. Has no access to the database, and no policy about topics.

Most rows are sent by a *gapless* producer: if the broker refuses a batch, nothing after it is written, so the order of a key
holds whatever is retried. A row that may be the cause of a refusal is sent by a second producer, alone in its request: if it
is refused there, it is the cause.
"""

import time
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from django.conf import settings

from chassis.deadletters import record as deadletters
from chassis.kafka import clients, names, sizes, statistics
from chassis.outbox import row_spans
from chassis.outbox.headers import headers_from_json
from chassis.outbox.row import Row

PATIENCE_SECONDS = 1.0
"""If nothing is acknowledged for this long, the relay continues with other topics while these rows remain in transit."""


CALL_SECONDS = 0.1
"""Maximum duration of one call into the client. confluent-kafka divides calls of more than 0.2 s into parts, and if the client
fails in one of them, the delivery reports of the next parts are lost: their callbacks run while its exception is set."""


class Verdict(Enum):
    """The result of sending a row."""

    CONFIRMED = "acknowledged"
    REFUSED = "will never be accepted"
    REFUSED_IN_BATCH = "refused in a batch, of which any row may be the cause"
    TOPIC = "cannot be written to the topic at present"
    NOT_SENT = "not sent, for a reason unrelated to the row"


class Answer(NamedTuple):
    """A row and its result."""

    row: Row
    verdict: Verdict
    reason: str = ""
    partition: int | None = None
    offset: int | None = None
    """Where an acknowledged row was written."""


CLIENT_ERRORS = frozenset(
    {
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._FATAL,
        KafkaError._GAPLESS_GUARANTEE,
        KafkaError._DESTROY,
        KafkaError._STATE,
        KafkaError._AUTHENTICATION,
        KafkaError._FENCED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
    }
)
"""Errors that are related neither to the row nor to its topic."""


def judge(error: KafkaError, *, alone: bool) -> Verdict:
    """The verdict about a row for an error; `alone`: it was the only row of its request."""
    if error.code() in clients.PERMANENT_ERRORS:
        return Verdict.REFUSED if alone else Verdict.REFUSED_IN_BATCH
    return Verdict.NOT_SENT if error.fatal() or error.code() in CLIENT_ERRORS else Verdict.TOPIC


class Sending:
    """Sends rows to Kafka, in order, and collects the results in `answers` until `take_answers` is called.

    `keep_alive` is called at least every quarter of a second while waiting, and may raise.
    """

    def __init__(self, on_error: Callable[[KafkaError], None], keep_alive: Callable[[], None]) -> None:
        self._on_error = on_error
        self._keep_alive = keep_alive
        self._client = self._make()
        self._single: Producer | None = None
        self._fresh: set[UUID] = set()
        self._since = self._sent_at = 0.0
        self._large = sizes.largest_event() // 2
        """Rows that are larger than this according to the database are measured exactly."""
        self._shortened: set[UUID] = set()
        """Dead letters that are sent without their diagnostics."""
        self._failure: KafkaError | None = None
        self.answers: list[Answer] = []
        self.unanswered: dict[UUID, Row] = {}
        """Rows in transit through the gapless producer."""
        self.alone: dict[str, Row] = {}
        """The row in transit through the second producer, by topic."""

    def _make(self) -> Producer:
        return clients.gapless_producer(error_cb=self._on_client_error, **statistics.options())

    def _on_client_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = error
        self._on_error(error)

    # --- sending ---

    def send(self, rows: Iterable[Row]) -> None:
        """Pass rows to the client until it accepts no more; the others remain in the outbox.

        After a row that is refused at once, its key waits (OUTBOX_PARKED_KEY); after an error of a topic, the topic waits.
        """
        self._sent_at = time.monotonic()
        if not self.unanswered:
            self._since = self._sent_at
        stopped: set[object] = set()
        for row in rows:
            if row.topic in stopped or (row.topic, row.key) in stopped:
                continue
            answer = self._produce(self._client, row)
            if answer is None:
                self.unanswered[row.event_id] = row
                self._fresh.add(row.event_id)
                continue
            self.answers.append(answer)
            if answer.verdict is Verdict.NOT_SENT:
                return
            if answer.verdict is not Verdict.REFUSED:
                stopped.add(row.topic)
            elif settings.OUTBOX_PARKED_KEY == "wait":
                stopped.add((row.topic, row.key))

    def send_alone(self, row: Row, within: float) -> Answer | None:
        """Send one row in its own request. Returns None if there is no result after `within` seconds; it remains in transit.

        If a dead letter is too large, the next call with it sends it without its error and traceback.
        """
        if self._single is None:
            self._single = clients.producer(error_cb=self._on_error, **statistics.options())
        answer = self._produce(self._single, row, alone=True)
        if answer is not None:
            self.answers.append(answer)
            return answer
        self.alone[row.topic] = row
        deadline = time.monotonic() + within
        while row.topic in self.alone and (left := deadline - time.monotonic()) > 0:
            # A flush also waits for the rows of other topics.
            self._collect(self._single.flush, left if len(self.alone) == 1 else 0.01)
            self._keep_alive()
        return None if row.topic in self.alone else self.answers[-1]

    def _produce(self, client: Producer, row: Row, *, alone: bool = False) -> Answer | None:
        """Pass one row to the client. Returns a result only if the row is refused before it is sent."""
        if reason := self._rejection(row):
            return Answer(row, Verdict.REFUSED, reason)
        try:
            record = self._record(row)
            if row.size > self._large and not _is_dead_letter(row) and sizes.of(*record) > sizes.largest_event():
                reason = f"{sizes.of(*record)} bytes; KAFKA_MAX_MESSAGE_BYTES is {sizes.largest_event()}"
                return Answer(row, Verdict.REFUSED, reason)  # its readers would not accept it
        except Exception as error:  # noqa: BLE001  a row that was not written by this code may contain anything
            return Answer(row, Verdict.REFUSED, f"not a valid Kafka record: {type(error).__name__}: {error}")
        try:
            return self._produce_with_retries(client, row, *record, alone)
        except KafkaException as exception:
            kafka_error: KafkaError = exception.args[0]
            if kafka_error.fatal() and not alone:
                self._failure = kafka_error
            return self._answer(row, kafka_error, alone=True)  # the client itself refused it, not as part of a batch
        except clients.UNWRITABLE as exception:
            return Answer(row, Verdict.REFUSED, f"not a valid Kafka record: {type(exception).__name__}: {exception}")

    @staticmethod
    def _rejection(row: Row) -> str:
        """Why this row can never be sent; empty if it can."""
        if row.headers is None:
            most = sizes.largest_event()
            return f"{row.size} bytes, more than any record may have: KAFKA_MAX_MESSAGE_BYTES is {most}"
        if not names.is_legal(row.topic):
            return "no topic can have this name: at most 249 letters, digits, '.', '_' and '-'"
        return ""

    def _record(self, row: Row) -> tuple[bytes | None, bytes | None, Any]:
        """Key, value and headers."""
        assert row.headers is not None
        key = bytes(row.raw_key) if row.raw_key is not None else None if row.key is None else row.key.encode()
        value = None if row.payload is None else bytes(row.payload)
        headers = headers_from_json(row.headers)
        if self._shortened and row.event_id in self._shortened:
            headers = deadletters.without_diagnostics(headers)
        return key, value, clients.checked(headers)

    def _produce_with_retries(
        self, client: Producer, row: Row, key: bytes | None, value: bytes | None, headers: Any, alone: bool
    ) -> Answer | None:
        done = partial(self._on_delivery, row, alone, time.time_ns())
        began = time.monotonic()
        while True:
            try:
                client.produce(row.topic, value, key, headers=headers, on_delivery=done)
            except BufferError:
                self._collect(client.poll, CALL_SECONDS)
                self._keep_alive()
                if time.monotonic() - max(began, self._since) > PATIENCE_SECONDS:
                    return Answer(row, Verdict.NOT_SENT, "the Kafka client is full")
            else:
                return None

    def _on_delivery(self, row: Row, alone: bool, sent_at: int, error: KafkaError | None, message: Message) -> None:
        if alone:
            self.alone.pop(row.topic, None)
        else:
            self.unanswered.pop(row.event_id, None)
            self._fresh.discard(row.event_id)
        if error is None:
            self._since = time.monotonic()
            self._shortened.discard(row.event_id)
            written = Answer(row, Verdict.CONFIRMED, partition=message.partition(), offset=message.offset())
            self.answers.append(written)
            row_spans.sent(row, sent_at, message)
        else:
            self.answers.append(self._answer(row, error, alone=alone))

    def _answer(self, row: Row, error: KafkaError, *, alone: bool) -> Answer:
        """The result for an error. A dead letter is only refused after it has been sent without diagnostics."""
        verdict = judge(error, alone=alone)
        if verdict is Verdict.REFUSED and _is_dead_letter(row) and row.event_id not in self._shortened:
            self._shortened.add(row.event_id)
            verdict = Verdict.REFUSED_IN_BATCH
        elif verdict is Verdict.REFUSED:
            self._shortened.discard(row.event_id)
        return Answer(row, verdict, f"{error.name()}: {error.str()}")

    # --- results ---

    def wait(self) -> None:
        """Wait until the rows of the last call have results, or nothing was acknowledged for PATIENCE_SECONDS."""
        old = len(self.unanswered) > len(self._fresh)
        while self._fresh and time.monotonic() - max(self._since, self._sent_at) < PATIENCE_SECONDS:
            self.serve(0.02 if old else CALL_SECONDS)  # a flush also waits for older rows
        self._fresh.clear()

    def serve(self, seconds: float) -> None:
        """Collect results for up to this many seconds, at most CALL_SECONDS."""
        waits = bool(self.unanswered)
        if self._single is not None:
            self._collect(self._single.poll, 0 if waits else seconds)
        self._collect(self._client.flush if waits else self._client.poll, seconds if waits else 0)
        self._keep_alive()

    def _collect(self, call: Callable[[float], int], seconds: float) -> None:
        """Make one call into a client, which runs the callbacks. A client that has failed permanently raises here."""
        try:
            call(min(seconds, CALL_SECONDS))
        except KafkaException as exception:
            self._failure = exception.args[0]

    def unacknowledged_for(self) -> float:
        """The seconds since the last acknowledgement while rows are in transit; 0 if none is."""
        return time.monotonic() - self._since if self.unanswered else 0.0

    def take_answers(self) -> list[Answer]:
        """Take the results so far; `put_back` those that could not be stored."""
        answers, self.answers = self.answers, []
        return answers

    def put_back(self, answers: list[Answer]) -> None:
        """Put back results that could not be stored."""
        self.answers = answers + self.answers

    @property
    def topics(self) -> set[str]:
        """The topics with rows in transit: further rows of these must not be sent, since they would be written twice."""
        return {row.topic for row in self.unanswered.values()} | set(self.alone)

    # --- the client ---

    def check_topic(self, topic: str, timeout: float) -> KafkaError | None:
        """Request a topic's metadata; returns the broker's error about it, if any. Raises KafkaException if none responds."""
        client = self._single or self._client
        known = client.list_topics(topic, timeout=timeout).topics.get(topic)
        return known.error if known else None

    def renew_if_failed(self) -> KafkaError | None:
        """Replace a client that has failed permanently; returns its error."""
        failure = self._failure
        if failure is not None:
            self.renew()
        return failure

    def renew(self) -> None:
        """Cancel rows in transit, so that they cannot arrive later, and create new clients."""
        for client in filter(None, (self._client, self._single)):
            client.purge()
            self._collect(client.poll, 0)
        self._single, self._client, self._failure = None, self._make(), None
        self.unanswered.clear()
        self.alone.clear()
        self._fresh.clear()

    def forget(self) -> None:
        """Cancel rows in transit and drop results, since another relay sends from now on."""
        if self.unanswered or self.alone:
            self.renew()
        self.answers.clear()


def _is_dead_letter(row: Row) -> bool:
    return names.is_dead_letter_topic(row.topic)
