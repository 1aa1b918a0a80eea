"""Which event a service reacts to, with which function: `@handles` in its handlers.py fills this."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from django.conf import settings
from opentelemetry.context import Context, attach, detach

from chassis.events.event import Event
from chassis.kafka import names
from chassis.observability import correlation
from chassis.runtime.retries import RetryPolicy

E_co = TypeVar("E_co", bound=Event, covariant=True)

NO_SOURCE = "no source"
"""The source of an event that names none. CloudEvents demands one; this is no URI, so no producer has it for its own."""


@dataclass(frozen=True, slots=True)
class Received(Generic[E_co]):
    """One event as it was read, and as a handler gets it: its content, and where it came from."""

    event: E_co
    id: str
    key: str
    request_id: str
    context: Context
    """The trace that the event belongs to: what it causes is traced under it."""
    source: str = NO_SOURCE

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes two records the same event to one service: id, topic, source.

        CloudEvents promises that source and id together are unique; another topic has another handler.
        """
        return (self.id, self.event.topic, self.source)

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Run the body under this event's request id and trace, so that its log lines say whose they are."""
        token = attach(self.context)
        try:
            with correlation.bind_request_id(self.request_id):
                yield
        finally:
            detach(token)


HandlerFunction = Callable[[Sequence[Received[Any]]], None]
F = TypeVar("F", bound=HandlerFunction)


@dataclass(frozen=True, slots=True)
class Handler:
    """A function, the event that it reads, and how long and how often it is tried."""

    event: type[Event]
    function: HandlerFunction
    retry: RetryPolicy | None = None
    """None: the service's own policy, from its settings."""
    timeout: float | None = None
    """Seconds; None: HANDLER_TIMEOUT_SECONDS."""


class DuplicateHandler(Exception):
    """Two functions handle the same topic: give each topic one handler that calls what is to happen."""


_handlers: dict[tuple[str, str], Handler] = {}
"""By service and topic: in a test process several services are loaded, and may react to the same event."""


def handles(event: type[Event], *, retry: RetryPolicy | None = None, timeout: float | None = None) -> Callable[[F], F]:
    """Register a function for all events of `event.topic`.

    It is given the new events of a batch, in the order of each key, and runs in one transaction: either all of them
    happened, with what they published, or none. It must therefore touch nothing that the transaction cannot undo.
    """

    def register(function: F) -> F:
        place = (_service(function), event.topic)
        known = _handlers.get(place)
        if known and known.function is not function:
            raise DuplicateHandler(event.topic)
        _handlers[place] = Handler(event, function, retry, timeout)
        return function

    return register


def handlers() -> dict[str, Handler]:
    """All handlers of the running service, by the name of their topic on the wire."""
    module = f"{settings.SERVICE_NAME}.handlers"
    if find_spec(module) is None:
        return {}
    import_module(module)
    own = (handler for (service, _), handler in _handlers.items() if service == settings.SERVICE_NAME)
    return {names.topic(handler.event): handler for handler in own}


def _service(function: HandlerFunction) -> str:
    return function.__module__.partition(".")[0]


def published() -> tuple[type[Event], ...]:
    """The events that the running service publishes: `PUBLISHES` of its events.py."""
    module = f"{settings.SERVICE_NAME}.events"
    if find_spec(module) is None:
        return ()
    return tuple(import_module(module).PUBLISHES)
