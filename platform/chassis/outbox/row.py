"""An outbox row as the relay takes it."""

from typing import NamedTuple
from uuid import UUID


class Row(NamedTuple):
    """An outbox row; payload and headers are None if the row is larger than any record."""

    position: int
    event_id: UUID
    topic: str
    key: str | None
    raw_key: bytes | memoryview | None
    payload: bytes | memoryview | None
    headers: str | None
    created_at: float
    """Seconds since the epoch; infinite if the column contains `infinity`."""
    size: int
