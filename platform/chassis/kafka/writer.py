"""Writing records to Kafka all or none, under a name that one process at a time can have."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message

from chassis.kafka import clients, sizes
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.kafka.records import Headers
from chassis.runtime.failures import DependencyDown

# A producer that was fenced has nothing to abort when it is closed; that is no news.
warnings.filterwarnings("ignore", message="Producer abort_transaction failed during close", category=RuntimeWarning)

STEP_SECONDS = 2.0
"""How long one call into the transaction may take before it is looked whether anybody still waits."""

FENCES = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


class Refused(Exception):
    """The broker will never take a record of the set (it is too large, say); nothing of the set was written."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        """Which one of the set."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """A record to write."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = -1
    """-1: the one of its key."""


class Writer:
    """A transactional producer. Whoever opened one under this name last is the one that writes; all others are Fenced.

    What a dead one left open is aborted when the next opens. Raises DependencyDown when Kafka does not answer.
    """

    def __init__(self, name: str, patience: Patience) -> None:
        self._patience = patience
        self._producer = clients.transactional_producer(name)
        self._refused: Refused | None = None
        self._refused_size = 0
        self._after_refusal = False
        self._undelivered: KafkaError | None = None
        """Why the first record that did not arrive did not."""
        self._undelivered_to = ""

    def __enter__(self) -> Self:
        self._patience.heard()
        try:
            self._insist(self._producer.init_transactions)
        except KafkaException as exception:
            self._close()
            raise DependencyDown(f"Kafka refuses: {exception.args[0].str()}") from exception
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._close()

    def write(self, records: Sequence[Outbound]) -> None:
        """Write all of these, or none. Raises Refused, Fenced.

        After DependencyDown it is not known which of both; another Writer of this name finds out.
        """
        # When the broker has refused a record, the Kafka client drops its next transaction too.
        if not self._try(records):
            self._try(records)

    def _try(self, records: Sequence[Outbound]) -> bool:
        """Whether all was written; False where the client took it back for what was refused before."""
        self._patience.heard()
        after_refusal, self._after_refusal = self._after_refusal, False
        self._refused = self._undelivered = None
        failed: Exception | None = None
        try:
            self._producer.begin_transaction()
            for index, record in enumerate(records):
                self._produce(index, record)  # the broker refuses whole batches: the largest is taken to be the cause
            self._flush()
            if self._refused is None:
                self._insist(self._producer.commit_transaction)
                return True
        except (KafkaException, SystemError, *clients.UNWRITABLE) as error:
            failed = error  # aborting says whether we were fenced
        self._abort()
        if self._refused is not None:
            self._after_refusal = True
            raise self._refused
        if after_refusal and self._undelivered is not None and self._undelivered.code() == KafkaError._PURGE_QUEUE:
            return False
        why = failed if self._undelivered is None else f"{self._undelivered_to}: {self._undelivered.str()}"
        raise DependencyDown(f"nothing was written: {why}") from failed

    def _close(self) -> None:
        # One that was fenced raises that here once more; whoever had to know it does.
        with contextlib.suppress(KafkaException, SystemError):
            self._producer.purge()
            self._producer.close()

    def _produce(self, index: int, record: Outbound) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    headers=clients.checked(record.headers),
                    on_delivery=self._on_delivery(index, record),
                )
            except BufferError:
                self._producer.poll(min(0.1, self._patience.left()))
            except KafkaException as exception:
                self._note(index, record, exception.args[0])
                raise
            except clients.UNWRITABLE as error:
                self._refused = self._refused or Refused(index, f"no Kafka record: {type(error).__name__}: {error}")
                raise
            else:
                return

    def _on_delivery(self, index: int, record: Outbound) -> Callable[[KafkaError | None, Message], None]:
        return lambda error, _: self._note(index, record, error) if error else None

    def _note(self, index: int, record: Outbound, error: KafkaError) -> None:
        if self._undelivered is None:
            self._undelivered, self._undelivered_to = error, record.topic
        size = sizes.of(record.key, record.value, record.headers)
        if error.code() in clients.REFUSED_FOR_GOOD and (self._refused is None or size > self._refused_size):
            self._refused, self._refused_size = Refused(index, f"{error.name()}: {error.str()}"), size

    def _flush(self) -> None:
        while clients.flush(self._producer, min(STEP_SECONDS, self._patience.left())):
            pass

    def _insist(self, step: Callable[[float], None]) -> None:
        """Repeat a step that only timed out: its outcome is open until it says yes or no.

        SystemError: when confluent-kafka learns that it was fenced while it serves delivery reports, it trips over its own
        exception. Asked again, it says so.
        """
        while True:
            try:
                step(min(STEP_SECONDS, self._patience.left()))
            except SystemError:
                continue
            except KafkaException as exception:
                error = exception.args[0]
                if error.code() in FENCES:
                    raise Fenced(error.str()) from exception
                if error.fatal() or error.txn_requires_abort() or not error.retriable():
                    raise
            else:
                self._patience.heard()
                return

    def _abort(self) -> None:
        try:
            self._insist(self._producer.abort_transaction)
        except KafkaException as exception:
            raise DependencyDown(exception.args[0].str()) from exception
