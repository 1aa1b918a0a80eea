"""A record as received from Kafka, before any validation."""

from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any

from confluent_kafka import Message
from opentelemetry.trace import Span

from chassis.observability import correlation, tracing

Partition = tuple[str, int]
"""Topic and partition number."""

Headers = list[tuple[str, bytes | None]]

LONGEST_LOGGED = 200
"""Maximum number of characters of an id in a log line or a span, since a foreign producer may have used any length."""

_headers_of = methodcaller("headers")
"""A checked `message.headers()`. For a name that is not UTF-8 it returns a broken list and sets an exception at the same time.
A direct call in frequently executed code returns the list (specialized bytecode omits the check), and reading it crashes."""


@dataclass(slots=True, eq=False)
class Record:
    """A record: its bytes, its position, and the state of its processing."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    """The producer's timestamp in milliseconds since the epoch; -1 if there is none."""
    size: int = 0
    attempts: int = 0
    """Failed attempts so far, in this process."""
    split: int = 0
    """Maximum size of a batch with this record; 0 is no limit. Halved each time such a batch fails."""
    failed_at: float = 0.0
    """When it last failed, by `time.monotonic()`."""
    held: int = 0
    """How often in a row it failed without counting an attempt."""
    cost: float = 0.0
    """How long an attempt with this record alone is expected to take, in seconds: as long as the last one, or its time limit."""
    misnamed: bool = False
    """Whether the name of a header is not UTF-8: the client could not return its headers, `raw_headers.complete` reads them."""
    headers_read: bool = True
    attempt_span: Span | None = field(default=None, repr=False)
    """The span of the last attempt, if that failed and it is not decided yet what follows."""
    _by_name: dict[str, bytes | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the headers by name; of several with the same name, the last one counts."""
        self._by_name = dict(self.headers)

    def give_headers(self, headers: Headers) -> None:
        """Set headers that were read again."""
        self.headers, self._by_name = headers, dict(headers)
        self.size += _size(headers)
        self.headers_read = True

    @property
    def source(self) -> Partition:
        """The partition of the record."""
        return (self.topic, self.partition)

    @property
    def key_queue(self) -> tuple[str, int, bytes | None]:
        """The key queue of the record: its key within its partition."""
        return (self.topic, self.partition, self.key)

    def header(self, name: str) -> str | None:
        """The last value of a header as text, or None."""
        value = self._by_name.get(name)
        return None if value is None else value.decode("utf-8", "replace")

    def raw_header(self, name: str) -> bytes | None:
        """The last value of a header in bytes, or None."""
        return self._by_name.get(name)

    def log_ids(self) -> dict[str, str]:
        """The request id, trace id and span id of this record, for a log line; empty where it has none that is valid."""
        request_id = self.header("requestId") or ""
        trace_id, span_id = tracing.ids_of(self.header("traceparent"))
        return {
            "request_id": request_id if correlation.sane(request_id) else "",
            "trace_id": trace_id,
            "span_id": span_id,
        }

    def log_fields(self) -> dict[str, Any]:
        """The log fields of this record, with its ids."""
        return {**self.log_place(), **self.log_ids()}

    def log_place(self) -> dict[str, Any]:
        """The log fields of this record without its ids. A key is an aggregate's id, never personal data."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "key": None if self.key is None else self.key[:80].decode("utf-8", "replace"),
            "event_id": None if (event_id := self.header("ce_id")) is None else event_id[:LONGEST_LOGGED],
        }


def from_message(message: Message) -> Record:
    """Convert a message without an error. Raises nothing, whatever the record contains."""
    key, value = message.key(), message.value()
    headers: Any = []
    misnamed = False
    try:
        headers = _headers_of(message) or []
    except (SystemError, UnicodeDecodeError):  # a name is not UTF-8; the message has no headers any more
        misnamed = True
    return Record(
        topic=message.topic(),  # type: ignore[arg-type]
        partition=message.partition(),  # type: ignore[arg-type]
        offset=message.offset(),  # type: ignore[arg-type]
        key=key,
        value=value,
        headers=headers,
        timestamp_ms=message.timestamp()[1],
        size=len(key or b"") + len(value or b"") + _size(headers),
        misnamed=misnamed,
        headers_read=not misnamed,
    )


def _size(headers: Headers) -> int:
    # Called for every record: a list comprehension is faster here than a generator expression.
    return sum([len(name) + (len(value) if value else 0) for name, value in headers])
