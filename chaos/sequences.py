"""Keys with many events, so that order per key can be seen to hold.

The system itself publishes one event a key and topic. So events of made-up users are written to users' outbox, one
transaction each, the next only when the one before is committed: from there on nothing tells them from its own.
"""

import asyncio
import uuid
from dataclasses import dataclass, field

import orjson
import psycopg

TOPIC = "user.created"
INSERT = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (event_id) DO NOTHING
"""


@dataclass
class Sequences:
    """The events that were written, in order, by key."""

    url: str
    written: dict[str, list[str]] = field(default_factory=dict)

    async def run(self, duration: float, *, keys: int = 10, events: int = 20) -> None:
        """Write `events` events to each of `keys` keys, in turn, spread over the duration."""
        names = [f"sequence-{uuid.uuid4()}" for _ in range(keys)]
        self.written = {name: [] for name in names}
        for number in range(events):
            for name in names:
                await self._insist(name, number)
                await asyncio.sleep(duration / (keys * events))

    async def _insist(self, key: str, number: int) -> None:
        """Write one event. When the database goes away its outcome is unknown, so the same event is written again."""
        event_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{key} {number}"))
        while True:
            try:
                async with asyncio.timeout(5):
                    connection = await psycopg.AsyncConnection.connect(self.url, autocommit=True)
                    async with connection:
                        await connection.execute(INSERT, _row(event_id, key))
            except (psycopg.Error, TimeoutError):
                await asyncio.sleep(0.2)
            else:
                self.written[key].append(event_id)
                return


def _row(event_id: str, key: str) -> tuple[str, ...]:
    payload = {"userId": key, "email": f"{key}@example.org", "name": "Ada", "createdAt": "2026-11-23T12:00:00Z"}
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_type": TOPIC,
        "ce_source": "/chaos",
        "ce_dataschema": f"urn:events:{TOPIC}:v1",
        "content-type": "application/json",
        "requestId": event_id,
    }
    return event_id, TOPIC, key, orjson.dumps(payload), orjson.dumps(list(headers.items())).decode(), event_id  # type: ignore[return-value]
