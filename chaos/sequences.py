"""Keys with many events, to test order per key.

The system itself publishes only one event per key and topic. Therefore events of artificial users are written to the
outbox of users, each in a transaction that starts after the previous commit. The system treats them like its own.
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
    """The written events, in order, by key."""

    url: str
    written: dict[str, list[str]] = field(default_factory=dict)

    async def run(self, duration: float, *, keys: int = 10, events: int = 20) -> None:
        """Write `events` events for each of `keys` keys, interleaved and spread over the duration."""
        names = [f"sequence-{uuid.uuid4()}" for _ in range(keys)]
        self.written = {name: [] for name in names}
        for number in range(events):
            for name in names:
                await self._write(name, number)
                await asyncio.sleep(duration / (keys * events))

    async def _write(self, key: str, number: int) -> None:
        """Write one event, retrying until it is committed: after a lost connection the outcome is unknown."""
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
