"""Writing records to Kafka all or none, under a name that one process at a time can have."""

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
    """Writes sets of records. Whoever opened one under this name last is the one that writes; all others are Fenced.

    What a dead one left open is aborted when the next opens. Raises DependencyDown when Kafka does not answer.
    """

    def __init__(self, name: str, patience: Patience) -> None:
        self._patience = patience
        self._producer = TransactionalProducer(clients.transactional_producer(name), patience)
        self._refused: RecordRefused | None = None
        self._refused_size = 0
        self._after_refusal = False
        self._undelivered: KafkaError | None = None
        """Why the first record that did not arrive did not."""
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
        """Write all of these, or none. Raises RecordRefused, Fenced.

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
        failed: Exception
        try:
            with self._producer.transaction():
                for index, record in enumerate(records):
                    self._produce(
                        index, record
                    )  # the broker refuses whole batches: the largest is taken to be the cause
                self._producer.flush()
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
        if error.code() in clients.REFUSED_FOR_GOOD and (self._refused is None or size > self._refused_size):
            self._refused, self._refused_size = RecordRefused(index, f"{error.name()}: {error.str()}"), size
