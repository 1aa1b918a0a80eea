"""A producer whose records, and a consumer's offsets, are committed together or not at all.

The producer that was opened last under a transactional id owns it; all others are Fenced.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from chassis.kafka import clients
from chassis.kafka.errors import Fenced, Unsure
from chassis.kafka.patience import Waiting

# A fenced producer has nothing to abort when it is closed, so this warning is not useful.
warnings.filterwarnings("ignore", message="Producer abort_transaction failed during close", category=RuntimeWarning)

CALL_SECONDS = 2.0
"""Timeout of one call to the broker, after which `waiting` is checked and the call is repeated."""

UNFINISHED = KafkaError._CONFLICT
"""A different call is unfinished. Until that one is repeated, this one keeps failing, although the error claims to be
retriable."""

FENCES = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


class TransactionalProducer:
    """Runs transactions one after the other with a client that has a transactional id (`clients.transactional_producer`).

    Unanswered calls are repeated for as long as `waiting` allows, which is checked before each call and notified of each
    response. `watchdog` is entered around each call that may hang.
    """

    def __init__(
        self, client: Producer, waiting: Waiting, watchdog: AbstractContextManager[None] | None = None
    ) -> None:
        self._client = client
        self._waiting = waiting
        self._watchdog = watchdog or nullcontext()
        self._end_was_repeated = False

    def open(self) -> None:
        """Take over the transactional id: aborts an open transaction of a dead producer, and fences a running one.

        Raises KafkaException if the broker refuses.
        """
        self._retry(lambda seconds: clients.init_transactions(self._client, seconds))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the body writes, or abort it if the body or the commit fails.

        After an abort, raises the exception of the body, or KafkaException if the broker refuses. Raises Fenced if this
        producer must be replaced.
        """
        with self._begun():
            yield
            self._retry(self._client.commit_transaction, ends=True)

    @contextmanager
    def aborted_transaction(self) -> Iterator[None]:
        """Abort what the body writes, in any case. Raises the same exceptions as `transaction`."""
        with self._begun():
            yield
        self._abort()

    @contextmanager
    def _begun(self) -> Iterator[None]:
        self._waiting.heard()  # nothing was requested since the last transaction
        try:
            self._client.begin_transaction()
            yield
        except Fenced:
            raise
        except KafkaException as exception:
            error = exception.args[0]
            if error.fatal():
                raise _ended(error) from exception
            self._abort()
            raise
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        try:
            self._retry(self._client.abort_transaction, ends=True)
        except KafkaException as exception:
            raise _ended(exception.args[0]) from exception

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, str | bytes | None]],
        partition: int = -1,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
    ) -> None:
        """Add a record to the transaction; partition -1 is the one of its key.

        Raises KafkaException if the client refuses it at once, and one of `clients.UNWRITABLE` if it is not a valid record.
        """
        checked = clients.checked(headers)
        while True:
            try:
                self._client.produce(topic, value, key, partition, headers=checked, on_delivery=on_delivery)
            except BufferError:
                self._client.poll(min(0.1, self._waiting.left()))
            else:
                return

    def flush(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Wait until every record is acknowledged or refused, or until `enough` returns True."""
        while not enough() and clients.flush(self._client, min(clients.FLUSH_SECONDS, self._seconds())):
            pass

    def send_offsets(self, positions: list[TopicPartition], member: Any) -> None:
        """Commit these offsets with the transaction, for a consumer's `consumer_group_metadata()`. Raises KafkaException."""
        self._retry(lambda seconds: self._client.send_offsets_to_transaction(positions, member, seconds))

    def raise_if_unsure(self) -> None:
        """Raise Unsure if ending a transaction required a second request: the broker may have left it open."""
        if self._end_was_repeated:
            raise Unsure("the broker did not respond while a transaction ended")

    def close(self) -> None:
        """Close the client and drop unsent records."""
        # A fenced client raises the error again here; it has already been handled.
        with contextlib.suppress(KafkaException, SystemError):
            self._client.purge()
            self._client.close()

    def _seconds(self) -> float:
        return min(CALL_SECONDS, self._waiting.left())

    def _retry(self, step: Callable[[float], None], *, ends: bool = False) -> None:
        """Repeat a call that timed out until its result is known. `ends`: it ends the transaction.

        confluent-kafka raises SystemError if it is fenced while it serves delivery reports; the repeated call reports the fencing.
        """
        while True:
            seconds = self._seconds()
            try:
                with self._watchdog:
                    step(seconds)
            except SystemError:
                continue
            except KafkaException as exception:
                error = exception.args[0]
                # If an abort is required, the abort shows whether this producer was fenced.
                if error.code() in FENCES and not error.txn_requires_abort():
                    raise Fenced(error.str()) from exception
                if error.fatal() or error.txn_requires_abort() or not error.retriable() or error.code() == UNFINISHED:
                    raise
                self._end_was_repeated |= ends
            else:
                self._waiting.heard()
                return


def _ended(error: KafkaError) -> Fenced:
    """The exception for a fatal error of a producer."""
    return Fenced(error.str()) if error.code() in FENCES else Unsure(error.str())
