"""Outbox rows on their way to Kafka, and what became of each. Knows no database and decides nothing about a topic.

Most rows go through a client that is *gapless*: when the broker refuses a batch, nothing behind it is written, so the
order of a key holds whatever is tried again. A row of which something is in doubt goes through a second client, alone in
its request: what is refused there is refused for its own sake.
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
from chassis.kafka import clients, names, sizes
from chassis.outbox.headers import headers_from_json

PATIENCE_SECONDS = 1.0
"""When nothing was confirmed for this long, rows without an answer are left on their way, and other topics' go on."""


CALL_SECONDS = 0.1
"""Longest call into the client. confluent-kafka divides a call of more than 0.2 s, and when the client fails in one of the
parts the delivery reports of the next ones are lost: their callbacks run while its exception is set."""


class Row(NamedTuple):
    """An outbox row; payload and headers are None where the row is larger than any record."""

    position: int
    event_id: UUID
    topic: str
    key: str | None
    raw_key: bytes | memoryview | None
    payload: bytes | memoryview | None
    headers: str | None
    created_at: float
    """Seconds since the epoch; infinite where somebody wrote so."""
    size: int


class Verdict(Enum):
    """What an answer says about its row."""

    CONFIRMED = "confirmed"
    REFUSED = "refused for good"
    IN_COMPANY = "refused with others: one of them is to blame"
    TOPIC = "not now, as the topic is"
    AGAIN = "not sent, for no fault of its own"


class Answer(NamedTuple):
    """A row, and what became of it."""

    row: Row
    verdict: Verdict
    reason: str = ""


OF_THE_CLIENT = frozenset(
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
"""Errors that say nothing about the row, nor about its topic."""


def judge(error: KafkaError, *, alone: bool) -> Verdict:
    """What an error says about a row; `alone`: no other row was in its request."""
    if error.code() in clients.REFUSED_FOR_GOOD:
        return Verdict.REFUSED if alone else Verdict.IN_COMPANY
    return Verdict.AGAIN if error.fatal() or error.code() in OF_THE_CLIENT else Verdict.TOPIC


class Sending:
    """Hands rows to Kafka, in order, and collects the answers in `answers` until somebody has dealt with them.

    `alive` is called at least every quarter of a second while something is waited for, and may raise.
    """

    def __init__(self, on_error: Callable[[KafkaError], None], alive: Callable[[], None]) -> None:
        self._on_error = on_error
        self._alive = alive
        self._client = self._make()
        self._single: Producer | None = None
        self._fresh: set[UUID] = set()
        self._since = self._given_at = 0.0
        self._large = sizes.largest_event() // 2
        """Rows that the database says are larger are measured exactly."""
        self._shortened: set[UUID] = set()
        """Dead letters that are tried without their diagnostics."""
        self._failure: KafkaError | None = None
        self.answers: list[Answer] = []
        self.unanswered: dict[UUID, Row] = {}
        """Rows that were given to the gapless client."""
        self.alone: dict[str, Row] = {}
        """By topic, the row that is tried alone."""

    def _make(self) -> Producer:
        return clients.gapless_producer(error_cb=self._on_client_error)

    def _on_client_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = error
        self._on_error(error)

    # --- giving ---

    def give(self, rows: Iterable[Row]) -> None:
        """Hand rows to the client until it takes no more; those that it has not taken are still in the outbox.

        Behind a row that is refused at once its key waits (OUTBOX_PARKED_KEY), behind one of a topic in trouble the topic.
        """
        self._given_at = time.monotonic()
        if not self.unanswered:
            self._since = self._given_at
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
            if answer.verdict is Verdict.AGAIN:
                return
            if answer.verdict is not Verdict.REFUSED:
                stopped.add(row.topic)
            elif settings.OUTBOX_PARKED_KEY == "wait":
                stopped.add((row.topic, row.key))

    def give_alone(self, row: Row, within: float) -> Answer | None:
        """Try one row in a request of its own. None: there is no answer yet after `within` seconds, it stays on its way.

        A dead letter that is too large is tried once more when it is given again, without its error and traceback.
        """
        if self._single is None:
            self._single = clients.producer(error_cb=self._on_error)
        answer = self._produce(self._single, row, alone=True)
        if answer is not None:
            self.answers.append(answer)
            return answer
        self.alone[row.topic] = row
        deadline = time.monotonic() + within
        while row.topic in self.alone and (left := deadline - time.monotonic()) > 0:
            # A flush waits for the rows of other topics, too.
            self._collect(self._single.flush, left if len(self.alone) == 1 else 0.01)
            self._alive()
        return None if row.topic in self.alone else self.answers[-1]

    def _produce(self, client: Producer, row: Row, *, alone: bool = False) -> Answer | None:
        """Hand over one row. An answer at once is what the client itself has against it."""
        if reason := self._never(row):
            return Answer(row, Verdict.REFUSED, reason)
        try:
            record = self._record(row)
            if row.size > self._large and not _is_dead_letter(row) and sizes.of(*record) > sizes.largest_event():
                reason = f"{sizes.of(*record)} bytes; KAFKA_MAX_MESSAGE_BYTES is {sizes.largest_event()}"
                return Answer(row, Verdict.REFUSED, reason)  # its readers would not accept it
        except Exception as error:  # noqa: BLE001  a row that somebody else wrote may be anything
            return Answer(row, Verdict.REFUSED, f"not a valid Kafka record: {type(error).__name__}: {error}")
        try:
            return self._insist(client, row, *record, alone)
        except KafkaException as exception:
            said: KafkaError = exception.args[0]
            if said.fatal() and not alone:
                self._failure = said
            return self._answer(row, said, alone=True)  # what the client itself refuses was in nobody's company
        except clients.UNWRITABLE as error:
            return Answer(row, Verdict.REFUSED, f"not a valid Kafka record: {type(error).__name__}: {error}")

    @staticmethod
    def _never(row: Row) -> str:
        """Why no such row can be sent, ever; empty if it may be."""
        if row.headers is None:
            most = sizes.largest_event()
            return f"{row.size} bytes, more than any record may have: KAFKA_MAX_MESSAGE_BYTES is {most}"
        if not names.is_legal(row.topic):
            return "no topic can have this name: letters, digits, '.', '_' and '-', 249 at most"
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

    def _insist(
        self, client: Producer, row: Row, key: bytes | None, value: bytes | None, headers: Any, alone: bool
    ) -> Answer | None:
        done = partial(self._done, row, alone)
        began = time.monotonic()
        while True:
            try:
                client.produce(row.topic, value, key, headers=headers, on_delivery=done)
            except BufferError:
                self._collect(client.poll, CALL_SECONDS)
                self._alive()
                if time.monotonic() - max(began, self._since) > PATIENCE_SECONDS:
                    return Answer(row, Verdict.AGAIN, "the Kafka client is full")
            else:
                return None

    def _done(self, row: Row, alone: bool, error: KafkaError | None, _: Message) -> None:
        if alone:
            self.alone.pop(row.topic, None)
        else:
            self.unanswered.pop(row.event_id, None)
            self._fresh.discard(row.event_id)
        if error is None:
            self._since = time.monotonic()
            self._shortened.discard(row.event_id)
            self.answers.append(Answer(row, Verdict.CONFIRMED))
        else:
            self.answers.append(self._answer(row, error, alone=alone))

    def _answer(self, row: Row, error: KafkaError, *, alone: bool) -> Answer:
        """A dead letter is not refused for good before it was tried without diagnostics."""
        verdict = judge(error, alone=alone)
        if verdict is Verdict.REFUSED and _is_dead_letter(row) and row.event_id not in self._shortened:
            self._shortened.add(row.event_id)
            verdict = Verdict.IN_COMPANY
        elif verdict is Verdict.REFUSED:
            self._shortened.discard(row.event_id)
        return Answer(row, verdict, f"{error.name()}: {error.str()}")

    # --- answers ---

    def wait(self) -> None:
        """Wait until what was given last has its answers, or nothing was confirmed for PATIENCE_SECONDS."""
        old = len(self.unanswered) > len(self._fresh)
        while self._fresh and time.monotonic() - max(self._since, self._given_at) < PATIENCE_SECONDS:
            self.serve(0.02 if old else CALL_SECONDS)  # a flush waits for the old ones, too
        self._fresh.clear()

    def serve(self, seconds: float) -> None:
        """Collect answers for up to so many seconds, CALL_SECONDS at most."""
        waits = bool(self.unanswered)
        if self._single is not None:
            self._collect(self._single.poll, 0 if waits else seconds)
        self._collect(self._client.flush if waits else self._client.poll, seconds if waits else 0)
        self._alive()

    def _collect(self, call: Callable[[float], int], seconds: float) -> None:
        """One call into a client, which runs the callbacks. A client that has failed for good says so here."""
        try:
            call(min(seconds, CALL_SECONDS))
        except KafkaException as exception:
            self._failure = exception.args[0]

    def quiet(self) -> float:
        """For how many seconds nothing was confirmed, though something waits for it; 0 when nothing does."""
        return time.monotonic() - self._since if self.unanswered else 0.0

    def take_answers(self) -> list[Answer]:
        """The answers so far, to be dealt with; `put_back` those that could not be."""
        answers, self.answers = self.answers, []
        return answers

    def put_back(self, answers: list[Answer]) -> None:
        """These are not dealt with yet."""
        self.answers = answers + self.answers

    @property
    def topics(self) -> set[str]:
        """Of which topics rows are on their way: no further ones may be given, they would be written twice."""
        return {row.topic for row in self.unanswered.values()} | set(self.alone)

    # --- the client ---

    def ask(self, topic: str, timeout: float) -> KafkaError | None:
        """Ask a broker about a topic: what it says against it, if anything. Raises KafkaException when none answers."""
        client = self._single or self._client
        known = client.list_topics(topic, timeout=timeout).topics.get(topic)
        return known.error if known else None

    def renew_if_failed(self) -> KafkaError | None:
        """Make another client in place of one that has ended for good; returns why it had."""
        failure = self._failure
        if failure is not None:
            self.renew()
        return failure

    def renew(self) -> None:
        """Take back what has no answer, so that it cannot arrive at any later time, and begin with another client."""
        for client in filter(None, (self._client, self._single)):
            client.purge()
            self._collect(client.poll, 0)
        self._single, self._client, self._failure = None, self._make(), None
        self.unanswered.clear()
        self.alone.clear()
        self._fresh.clear()

    def forget(self) -> None:
        """Somebody else sends from here on: nothing is on its way any more, and no answer matters."""
        if self.unanswered or self.alone:
            self.renew()
        self.answers.clear()


def _is_dead_letter(row: Row) -> bool:
    return names.is_dead_letter_topic(row.topic)
