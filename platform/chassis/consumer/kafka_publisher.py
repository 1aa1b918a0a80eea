"""Publishing in a service without a database: an event is written in the Kafka transaction of the batch at hand."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chassis.events.envelope import Envelope

_collected: ContextVar[list[Envelope] | None] = ContextVar("collected", default=None)


class KafkaPublisher:
    """A `chassis.events.publishing.Publisher`: the transaction is opened, and these are written, when all handlers are done."""

    def in_transaction(self) -> bool:
        """Whether a handler is running."""
        return _collected.get() is not None

    def write(self, envelopes: Iterable[Envelope]) -> None:
        """Keep events for the transaction."""
        sealed = list(envelopes)  # none, where making one of them fails
        collected = _collected.get()
        assert collected is not None, "not in a transaction"
        collected += sealed


@contextmanager
def collecting() -> Iterator[list[Envelope]]:
    """What is published in the body, so far."""
    envelopes: list[Envelope] = []
    token = _collected.set(envelopes)
    try:
        yield envelopes
    finally:
        _collected.reset(token)
