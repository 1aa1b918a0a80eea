"""Publishing in a service without a database: an event is written in the Kafka transaction of the current batch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chassis.events.envelope import Envelope

_collected: ContextVar[list[Envelope] | None] = ContextVar("collected", default=None)


class KafkaPublisher:
    """A `chassis.events.publishing.Publisher` that collects events; they are written once all handlers have returned."""

    def in_transaction(self) -> bool:
        """Whether a handler is running."""
        return _collected.get() is not None

    def write(self, envelopes: Iterable[Envelope]) -> None:
        """Collect events for the transaction."""
        sealed = list(envelopes)  # first, so that nothing is collected if one of them raises
        collected = _collected.get()
        assert collected is not None, "not in a transaction"
        collected += sealed


@contextmanager
def collecting() -> Iterator[list[Envelope]]:
    """Collect the events that the body publishes."""
    envelopes: list[Envelope] = []
    token = _collected.set(envelopes)
    try:
        yield envelopes
    finally:
        _collected.reset(token)
