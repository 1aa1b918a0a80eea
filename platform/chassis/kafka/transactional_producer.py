"""A producer whose records, and a consumer's offsets, are committed together or not at all.

Whoever opened one under a transactional id last has it; all others are Fenced.
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

# A producer that was fenced has nothing to abort when it is closed; that is no news.
warnings.filterwarnings("ignore", message="Producer abort_transaction failed during close", category=RuntimeWarning)

CALL_SECONDS = 2.0
"""How long one call to the broker may take before it is looked whether anybody still waits."""

UNFINISHED = KafkaError._CONFLICT
"""Another call has not ended: until it is repeated this one is refused, and called retriable, for ever."""

FENCES = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


class TransactionalProducer:
    """Runs one transaction after the other with a client that has a transactional id (`clients.transactional_producer`).

    What the broker does not answer is asked again, for as long as `waiting` allows: it is asked before each call, and told of
    each answer. `watchdog` is entered around each call that may hang.
    """

    def __init__(
        self, client: Producer, waiting: Waiting, watchdog: AbstractContextManager[None] | None = None
    ) -> None:
        self._client = client
        self._waiting = waiting
        self._watchdog = watchdog or nullcontext()
        self._end_was_repeated = False

    def open(self) -> None:
        """Take the transactional id: aborts what a dead producer left open, and fences off a living one.

        Raises KafkaException where the broker refuses that.
        """
        self._insist(self._client.init_transactions)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the body wrote; abort it when the body or the commit fails.

        Raises what the body raises, or KafkaException for what the broker refuses, once that is aborted. Raises Fenced where
        this producer can do nothing any more.
        """
        with self._begun():
            yield
            self._insist(self._client.commit_transaction, ends=True)

    @contextmanager
    def aborted_transaction(self) -> Iterator[None]:
        """Abort what the body wrote in any case. Raises what `transaction` raises."""
        with self._begun():
            yield
        self._abort()

    @contextmanager
    def _begun(self) -> Iterator[None]:
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
            self._insist(self._client.abort_transaction, ends=True)
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

        Raises KafkaException for what the client refuses at once, and one of `clients.UNWRITABLE` for what is no record.
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
        """Wait until every record is acknowledged or refused, or `enough` is."""
        while not enough() and clients.flush(self._client, self._seconds()):
            pass

    def send_offsets(self, positions: list[TopicPartition], member: Any) -> None:
        """Commit these offsets with the transaction, for a consumer's `consumer_group_metadata()`. Raises KafkaException."""
        self._insist(lambda seconds: self._client.send_offsets_to_transaction(positions, member, seconds))

    def raise_if_unsure(self) -> None:
        """Raise Unsure when the broker had to be asked twice to end a transaction: it may have forgotten to."""
        if self._end_was_repeated:
            raise Unsure("the broker was away while a transaction ended")

    def close(self) -> None:
        """Let go of the client, and of what is not sent."""
        # One that was fenced raises that here once more; whoever had to know it does.
        with contextlib.suppress(KafkaException, SystemError):
            self._client.purge()
            self._client.close()

    def _seconds(self) -> float:
        return min(CALL_SECONDS, self._waiting.left())

    def _insist(self, step: Callable[[float], None], *, ends: bool = False) -> None:
        """Repeat a step that only timed out: its outcome is open until it says yes or no. `ends`: it ends the transaction.

        SystemError: when confluent-kafka learns that it was fenced while it serves delivery reports, it trips over its own
        exception. Asked again, it says so.
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
                if (
                    error.code() in FENCES and not error.txn_requires_abort()
                ):  # else aborting says whether it was fenced
                    raise Fenced(error.str()) from exception
                if error.fatal() or error.txn_requires_abort() or not error.retriable() or error.code() == UNFINISHED:
                    raise
                self._end_was_repeated |= ends
            else:
                self._waiting.heard()
                return


def _ended(error: KafkaError) -> Fenced:
    """What a producer that can do nothing any more was ended by."""
    return Fenced(error.str()) if error.code() in FENCES else Unsure(error.str())
