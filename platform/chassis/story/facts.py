"""What a service knows about a story: a question to it, and the facts with which it answers. Plain data, as JSON between processes.

Topics have their logical names, without KAFKA_PREFIX. This module needs no Django, since the process that asks all services
runs none of them.
"""

import re
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

CLOCKS = timedelta(seconds=60)
"""How far the clocks of the machines may differ."""

SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
"""An id that can be asked for: that of an aggregate, a request or a trace."""

DEAD_LETTERS = ".dlq"


class BadId(Exception):
    """An id is 1 to 128 letters, digits or `._:-`: that of an order, a user, a request or a trace."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True)


class Letter(_Data):
    """A dead letter: why a consumer gave up on a record, and which record it was."""

    id: str
    group: str
    reason: str
    error: str
    attempts: str
    topic: str
    partition: str
    offset: str


class Row(_Data):
    """A row of the service's own state. `is_final` means that no event is expected to change it."""

    what: str
    id: str
    state: str
    at: datetime
    changed_at: datetime | None = None
    is_final: bool = True


class OutboxRow(_Data):
    """An event in the outbox."""

    position: int
    event_id: str
    topic: str
    key: str | None
    request_id: str
    trace_id: str
    created_at: datetime | None
    sent_at: datetime | None = None
    parked_at: datetime | None = None
    parked_reason: str = ""
    discarded_at: datetime | None = None
    discarded_by: str = ""
    behind: int | None = None
    """The position of the parked row of the same key that it waits for."""
    letter: Letter | None = None


class InboxRow(_Data):
    """An event whose effects are committed."""

    event_id: str
    topic: str
    key: str
    request_id: str
    at: datetime | None


class TopicRecord(_Data):
    """A record on a topic."""

    topic: str
    partition: int
    offset: int
    at: datetime | None
    key: str | None
    event_id: str
    request_id: str
    trace_id: str
    source: str
    """The service that published it, according to its `ce_source`."""
    redriven_for: str = ""
    letter: Letter | None = None
    resolves: str = ""
    """The id of the dead letter that this record resolves, and how."""
    resolution: str = ""

    @property
    def place(self) -> str:
        """Topic, partition and offset, as text."""
        return f"{self.topic}/{self.partition} at offset {self.offset}"


Event = OutboxRow | InboxRow | TopicRecord


class Facts(_Data):
    """Everything that one service knows about a story."""

    service: str
    has_database: bool = False
    consumes: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    inbox: tuple[InboxRow, ...] = ()
    records: tuple[TopicRecord, ...] = ()
    committed: dict[str, dict[int, int]] = {}
    """The committed offsets of the service's group, by topic and partition."""
    members: int | None = None
    """The number of running consumers of the group; None if it is not known."""
    missing_topics: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What could not be asked, and why."""
    limits: tuple[str, ...] = ()
    """What was not searched."""

    @property
    def is_empty(self) -> bool:
        """Whether the service knows nothing about the story."""
        return not (self.rows or self.outbox or self.inbox or self.records)

    def events(self) -> list[Event]:
        """All that is known about events."""
        found: list[Event] = [*self.outbox]
        found += self.inbox
        found += self.records
        return found

    def times(self) -> list[datetime]:
        """The times of all facts."""
        found = [
            *(row.at for row in self.rows),
            *(row.created_at for row in self.outbox),
            *(row.at for row in self.inbox),
            *(record.at for record in self.records),
        ]
        return [time for time in found if time is not None]


class Question(_Data):
    """What to search for. It grows with the facts found: an order leads to its request, and that to all of its events."""

    ids: frozenset[str]
    """The id that was given, in each form in which it may be stored."""
    request_ids: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    event_ids: frozenset[str] = frozenset()
    since: datetime | None = None
    """Where to begin on the topics; None: only the newest records are searched."""
    topics: bool = False
    """Whether to read the topics too."""

    @classmethod
    def about(cls, given: str) -> "Question":
        """The question about an id. Raises BadId."""
        if not SANE.fullmatch(given):
            raise BadId(" ".join((BadId.__doc__ or "").split()))
        forms = {given, *(form for one in uuids([given]) for form in (str(one), one.hex))}
        return cls(ids=frozenset(forms))

    @property
    def all_keys(self) -> frozenset[str]:
        """The keys to search for."""
        return self.keys | self.ids

    @property
    def all_request_ids(self) -> frozenset[str]:
        """The request ids to search for."""
        return self.request_ids | self.ids

    @property
    def all_event_ids(self) -> frozenset[str]:
        """The event ids to search for."""
        return self.event_ids | self.ids

    def widened(self, known: list[Facts]) -> "Question":
        """The question with the keys, events and requests of these facts.

        Only facts about the given id itself lead to another request: an aggregate may have taken part in many.
        """
        events = [one for facts in known for one in facts.events()]
        direct = [one for one in events if self._is_direct(one)]
        rows = [row for facts in known for row in facts.rows]
        times = [time for facts in known for time in facts.times()]
        return Question(
            ids=self.ids,
            request_ids=self.request_ids | {one.request_id for one in direct if one.request_id},
            keys=self.keys | {one.key for one in events if one.key and self._is_own(one)} | {row.id for row in rows},
            event_ids=self.event_ids | {one.event_id for one in events if one.event_id},
            since=min(times) - CLOCKS if times else None,
            topics=True,
        )

    def _is_direct(self, event: Event) -> bool:
        named = {event.key, event.event_id, event.request_id, getattr(event, "trace_id", "")}
        return bool(self.ids & named)

    def _is_own(self, event: Event) -> bool:
        return self._is_direct(event) or event.request_id in self.request_ids


def uuids(texts: Iterable[str]) -> set[uuid.UUID]:
    """Those of these texts that are UUIDs."""
    found = set()
    for text in texts:
        try:
            found.add(uuid.UUID(text))
        except ValueError:
            continue
    return found
