"""What a story is made of: spans, log lines and its summary. A story is everything that has one trace id."""

from dataclasses import dataclass, field
from typing import Any

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of a span, such as `retry`, `dead letter` or `exception`. `at` is in nanoseconds since the epoch."""

    name: str
    at: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanLink:
    """A link of a span to a span, perhaps of another trace. Ids are hexadecimal."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended; times in nanoseconds since the epoch. `parent_id` is empty for the first span of a trace."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    """SERVER, CLIENT, PRODUCER, CONSUMER or INTERNAL."""
    service: str
    role: str
    """gateway, web, relay, consume or command."""
    instance: str
    """Host and process id."""
    begun: int
    ended: int
    attributes: Attributes
    happenings: tuple[Happening, ...]
    links: tuple[SpanLink, ...]
    error: str | None
    """The description of the failure, perhaps empty; None if the span did not fail."""

    @property
    def process(self) -> str:
        """The process as `make up` names it, such as `orders` or `orders-consume`."""
        return self.service if self.role in {"gateway", "web", ""} else f"{self.service}-{self.role}"

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.begun) / 1e9


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a process's log."""

    number: int
    """Its position in the order in which the console read all lines."""
    process: str
    at: float
    """Seconds since the epoch, of the line itself; if it has no time, when it was read."""
    level: str
    text: str
    trace_id: str
    request_id: str

    @property
    def fields(self) -> dict[str, Any]:
        """`event` and the other fields of the line, parsed at each access; empty if it has none, such as a part of a traceback."""
        from chassis.story import logs

        found = logs.parse(self.process, self.text)
        return {} if found is None else {"event": found.event, **found.fields}


@dataclass(slots=True)
class Summary:
    """What is known of a story without its spans; kept when these have been dropped. Times in nanoseconds since the epoch."""

    trace_id: str
    number: int
    """Its position in the order in which stories began to be known; the page of stories is sorted by it."""
    begun: int = 0
    ended: int = 0
    name: str = ""
    """The request, such as `POST /api/users`, or the name of the first span."""
    method: str = ""
    route: str = ""
    status: int = 0
    """The HTTP status of the response; 0 if it is not known, or there was no request."""
    duration: int = 0
    """How long the request took, in nanoseconds."""
    request_id: str = ""
    services: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    ids: str = ""
    """Ids to find it by, separated by spaces: keys of events (of users and orders), ids of events and of dead letters."""
    spans: int = 0
    lines: int = 0
    failures: int = 0
    """Spans that failed, without calls of others, and lines of level error."""
    retries: int = 0
    dead_letters: int = 0
    error: str = ""
    """The first failure, in words."""
    changed: int = 0
    """The number of the change that touched it last; see `Stories.wait`."""
    root: bool = field(default=False, repr=False)

    @property
    def whole(self) -> int:
        """How long the story took so far, in nanoseconds: at least as long as its request, whose own span comes last."""
        return max(self.duration, self.ended - self.begun)

    @property
    def state(self) -> str:
        """`dead-lettered`, `failed`, `retried`, `rejected` (a status of 4xx) or `ok`: the worst that happened in it."""
        if self.dead_letters:
            return "dead-lettered"
        if self.failures or self.status >= 500:
            return "failed"
        if self.retries:
            return "retried"
        return "rejected" if self.status >= 400 else "ok"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = (
            "trace_id", "number", "begun", "ended", "name", "method", "route", "status", "duration", "request_id", "services",
            "topics", "ids", "spans", "lines", "failures", "retries", "dead_letters", "error", "state",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}
