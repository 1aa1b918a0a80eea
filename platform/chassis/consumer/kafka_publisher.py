"""Publishing in a service without a database: an event is written in the Kafka transaction of the current batch."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import structlog

from chassis.events.envelope import Envelope

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Collected:
    """What the handlers of a batch have asked for: events to write, and functions to call after the commit."""

    envelopes: list[Envelope] = field(default_factory=list)
    callbacks: list[Callable[[], object]] = field(default_factory=list)

    def committed(self) -> None:
        """Call the functions, after the transaction was committed. What one of them raises is logged."""
        for callback in self.callbacks:
            try:
                callback()
            except Exception:
                log.exception("a function that was to be called after the commit failed")


_collected: ContextVar[Collected | None] = ContextVar("collected", default=None)


class KafkaPublisher:
    """A `chassis.events.publishing.Publisher` that collects events; they are written once all handlers have returned."""

    def in_transaction(self) -> bool:
        """Whether a handler is running."""
        return _collected.get() is not None

    def write(self, envelopes: Iterable[Envelope]) -> None:
        """Collect events for the transaction."""
        sealed = list(envelopes)  # first, so that nothing is collected if one of them raises
        self._current().envelopes.extend(sealed)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call a function after the transaction was committed."""
        self._current().callbacks.append(callback)

    @staticmethod
    def _current() -> Collected:
        collected = _collected.get()
        assert collected is not None, "not in a transaction"
        return collected


@contextmanager
def collecting() -> Iterator[Collected]:
    """Collect what the body publishes, and what it wants to be called after the commit."""
    collected = Collected()
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)
