"""Writing sets of records to Kafka, all or none, under a transactional id that one process at a time can own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message

from chassis.kafka import clients, sizes
from chassis.kafka.patience import Patience
from chassis.kafka.records import Headers
from chassis.kafka.transactional_producer import TransactionalProducer
from chassis.runtime.failures import DependencyDown


class RecordRefused(Exception):
    """The broker will never accept a record of the set, for example because it is too large; none of the set was written."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        """The index of that record in the set."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """A record to write."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = -1
    """-1: the partition of its key."""


class Writer:
    """Writes sets of records. The writer that was opened last under this name can write; all others are Fenced.

    Opening a writer aborts an open transaction of a dead one. Raises DependencyDown if Kafka does not respond.
    """

    def __init__(self, name: str, patience: Patience) -> None:
        self._patience = patience
        self._producer = TransactionalProducer(clients.transactional_producer(name), patience)
        self._refused: RecordRefused | None = None
        self._refused_size = 0
        self._after_refusal = False
        self._undelivered: KafkaError | None = None
        """The error of the first record that was not delivered."""
        self._undelivered_to = ""

    def __enter__(self) -> Self:
        self._patience.heard()
        try:
            self._producer.open()
        except KafkaException as exception:
            self._producer.close()
            raise DependencyDown(f"Kafka refuses: {exception.args[0].str()}") from exception
        except BaseException:
            self._producer.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._producer.close()

    def write(self, records: Sequence[Outbound]) -> None:
        """Write all of these records, or none. Raises RecordRefused, Fenced.

        After DependencyDown it is not known whether they were written; opening another Writer of this name resolves this.
        """
        # After the broker has refused a record, the Kafka client also drops the next transaction.
        if not self._try(records):
            self._try(records)

    def _try(self, records: Sequence[Outbound]) -> bool:
        """Whether all was written; False if the client dropped the transaction because of an earlier refusal."""
        self._patience.heard()
        after_refusal, self._after_refusal = self._after_refusal, False
        self._refused = self._undelivered = None
        failed: Exception
        try:
            with self._producer.transaction():
                for index, record in enumerate(records):
                    self._produce(index, record)
                # After a refusal, the client keeps the records behind the refused ones until their timeout.
                self._producer.flush(lambda: self._refused is not None)
                if self._refused is not None:
                    raise self._refused
        except (KafkaException, SystemError, RecordRefused, *clients.UNWRITABLE) as error:
            failed = error
        else:
            return True
        if self._refused is not None:
            self._after_refusal = True
            raise self._refused
        if after_refusal and self._undelivered is not None and self._undelivered.code() == KafkaError._PURGE_QUEUE:
            return False
        why = failed if self._undelivered is None else f"{self._undelivered_to}: {self._undelivered.str()}"
        raise DependencyDown(f"nothing was written: {why}") from failed

    def _produce(self, index: int, record: Outbound) -> None:
        done = partial(self._on_delivery, index, record)
        try:
            self._producer.produce(record.topic, record.key, record.value, record.headers, record.partition, done)
        except KafkaException as exception:
            self._note(index, record, exception.args[0])
            raise
        except clients.UNWRITABLE as error:
            self._refused = self._refused or RecordRefused(
                index, f"not a valid Kafka record: {type(error).__name__}: {error}"
            )
            raise

    def _on_delivery(self, index: int, record: Outbound, error: KafkaError | None, _: Message) -> None:
        if error:
            self._note(index, record, error)

    def _note(self, index: int, record: Outbound, error: KafkaError) -> None:
        if self._undelivered is None:
            self._undelivered, self._undelivered_to = error, record.topic
        size = sizes.of(record.key, record.value, record.headers)
        # The broker refuses whole batches; the largest record is assumed to be the cause.
        if error.code() in clients.PERMANENT_ERRORS and (self._refused is None or size > self._refused_size):
            self._refused, self._refused_size = RecordRefused(index, f"{error.name()}: {error.str()}"), size
