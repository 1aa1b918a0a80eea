"""A record as it came from Kafka, before anything about it is believed."""

from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any

from confluent_kafka import Message

Partition = tuple[str, int]
"""Topic and partition number."""

Headers = list[tuple[str, bytes | None]]

LONGEST_LOGGED = 200
"""Characters of an id that a log line or a span shows: whoever writes to a topic may have made it as long as he likes."""

_headers_of = methodcaller("headers")
"""`message.headers()`, checked. For a name that is not UTF-8 it gives a broken list and an exception at the same time; a call
written out, in code that ran often, gets the list (Python leaves the check out when it specializes), and reading it crashes."""


@dataclass(slots=True, eq=False)
class Record:
    """One record: bytes, and where they stood."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    """When it was written, as its writer said; -1 where that said nothing."""
    size: int = 0
    attempts: int = 0
    """Failed tries so far, in this process."""
    split: int = 0
    """Largest batch that this record may be tried in; 0 is no limit. Halved each time that a batch with it fails."""
    failed_at: float = 0.0
    """When it last failed, by `time.monotonic()`."""
    held: int = 0
    """How often in a row it failed in a way that is not counted as a try."""
    cost: float = 0.0
    """How long trying it alone is expected to take, in seconds: as long as the last time, or its time limit."""
    misnamed: bool = False
    """Whether the name of a header is not UTF-8: the client could not tell its headers, `raw_headers.complete` reads them."""
    headers_read: bool = True
    _by_name: dict[str, bytes | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Where a name comes twice, the last one counts."""
        self._by_name = dict(self.headers)

    def give_headers(self, headers: Headers) -> None:
        """These are its headers, read once more."""
        self.headers, self._by_name = headers, dict(headers)
        self.size += _size(headers)
        self.headers_read = True

    @property
    def source(self) -> Partition:
        """The partition that the record came from."""
        return (self.topic, self.partition)

    @property
    def key_queue(self) -> tuple[str, int, bytes | None]:
        """What keeps its order: the key, within its partition."""
        return (self.topic, self.partition, self.key)

    def header(self, name: str) -> str | None:
        """The last value of a header as text, or None."""
        value = self._by_name.get(name)
        return None if value is None else value.decode("utf-8", "replace")

    def raw_header(self, name: str) -> bytes | None:
        """The last value of a header as it came, or None."""
        return self._by_name.get(name)

    def log_fields(self) -> dict[str, Any]:
        """What a log line about this record says of it. A key is an aggregate's id, never personal data."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "key": None if self.key is None else self.key[:80].decode("utf-8", "replace"),
            "event_id": None if (event_id := self.header("ce_id")) is None else event_id[:LONGEST_LOGGED],
        }


def from_message(message: Message) -> Record:
    """The record of a message that carries no error. It raises nothing, whatever the record holds."""
    key, value = message.key(), message.value()
    headers: Any = []
    misnamed = False
    try:
        headers = _headers_of(message) or []
    except (SystemError, UnicodeDecodeError):  # a name that is not UTF-8; by now they are gone from the message
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
    return sum(len(name) + len(value or b"") for name, value in headers)
