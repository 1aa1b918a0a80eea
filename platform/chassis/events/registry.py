"""The registry of handlers: which function of a service handles which event. `@handles` in its handlers.py fills it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Generic, NamedTuple, Self, TypeVar

from django.conf import settings
from opentelemetry.context import Context, attach, detach

from chassis.events.event import Event
from chassis.kafka import names
from chassis.observability import correlation, tracing
from chassis.observability.trace_context import TraceContext
from chassis.runtime.retries import RetryPolicy

E_co = TypeVar("E_co", bound=Event, covariant=True)

NO_SOURCE = "no source"
"""The source of an event that has none. CloudEvents requires a source; this is not a URI, so no producer can have it."""


class Received(NamedTuple, Generic[E_co]):
    """A received event, as it is passed to a handler: its content and its origin."""

    event: E_co
    id: str
    key: str
    request_id: str
    trace: TraceContext = TraceContext()
    """The position of the event in its trace, which the events that it causes continue."""
    source: str = NO_SOURCE
    origin_time: str = ""
    """When the request that began this event's chain was received, in RFC 3339; empty if that is not known."""
    recorded: Context | None = None
    """The context of the event's span, if that is recorded."""

    def within(self, position: TraceContext, recorded: Context | None = None) -> Self:
        """The same event at another position of its trace."""
        return type(self)(
            self.event, self.id, self.key, self.request_id, position, self.source, self.origin_time, recorded
        )

    @property
    def context(self) -> Context:
        """OpenTelemetry's context of the event."""
        return tracing.context_of(self.trace) if self.recorded is None else self.recorded

    @property
    def identity(self) -> tuple[str, str, str]:
        """What identifies an event within a service: id, topic and source.

        CloudEvents guarantees that source and id together are unique; another topic has another handler.
        """
        return (self.id, self.event.topic, self.source)

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Run the body with this event's request id and trace, so that its log lines contain them."""
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
    """A handler function, its event model, its retry policy and its time limit."""

    event: type[Event]
    function: HandlerFunction
    retry: RetryPolicy | None = None
    """None: the policy from the service's settings."""
    timeout: float | None = None
    """In seconds; None: HANDLER_TIMEOUT_SECONDS."""


class DuplicateHandler(Exception):
    """Two functions handle the same topic: write one handler that calls both."""


_handlers: dict[tuple[str, str], Handler] = {}
"""By service and topic: in tests, several services in one process may handle the same event."""


def handles(event: type[Event], *, retry: RetryPolicy | None = None, timeout: float | None = None) -> Callable[[F], F]:
    """Register a function as the handler for all events of `event.topic`.

    It receives the new events of a batch, in order per key, and runs in one transaction: either all of its effects and the
    events that it publishes are committed, or none. It must therefore do nothing that the transaction cannot roll back.
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
    """The handlers of the running service, by their topic's name on the wire."""
    module = f"{settings.SERVICE_NAME}.handlers"
    if find_spec(module) is None:
        return {}
    import_module(module)
    own = (handler for (service, _), handler in _handlers.items() if service == settings.SERVICE_NAME)
    return {names.topic(handler.event): handler for handler in own}


def _service(function: HandlerFunction) -> str:
    return function.__module__.partition(".")[0]


def published() -> tuple[type[Event], ...]:
    """The events that the running service publishes: `PUBLISHES` in its events.py."""
    module = f"{settings.SERVICE_NAME}.events"
    if find_spec(module) is None:
        return ()
    return tuple(import_module(module).PUBLISHES)
