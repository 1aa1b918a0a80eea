"""Events as the services write them, made without the services."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """A record: its id, key, value and headers."""

    id: str
    key: bytes
    value: bytes
    headers: list[tuple[str, str]]

    def headers_as_json(self) -> str:
        """The headers as the outbox stores them."""
        return json.dumps(self.headers)


def user_created(number: int) -> list[Sample]:
    """New users."""
    now = _now()
    return [_user(str(uuid.uuid4()), now) for _ in range(number)]


def order_created(number: int) -> list[Sample]:
    """New welcome orders."""
    now = _now()
    return [_order(str(uuid.uuid4()), str(uuid.uuid4()), now) for _ in range(number)]


def _user(user: str, now: str) -> Sample:
    body = f'{{"userId":"{user}","email":"{user}@example.org","name":"Ada Lovelace","createdAt":"{now}"}}'
    return _sample("user.created", "/users", user, body, now)


def _order(order: str, user: str, now: str) -> Sample:
    items = '[{"productId":"welcome-product","quantity":1,"price":0.00}]'
    body = f'{{"orderId":"{order}","userId":"{user}","items":{items},"totalAmount":0.00,"createdAt":"{now}"}}'
    return _sample("order.created", "/orders", order, body, now)


def _sample(topic: str, source: str, key: str, body: str, now: str) -> Sample:
    event, trace, span = str(uuid.uuid4()), uuid.uuid4().hex, uuid.uuid4().hex[:16]
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event,
        "ce_type": topic,
        "ce_source": source,
        "ce_time": now,
        "ce_dataschema": f"urn:events:{topic}:v1",
        "content-type": "application/json",
        "requestId": str(uuid.uuid4()),
        "traceId": trace,
        "spanId": span,
        "traceparent": f"00-{trace}-{span}-00",
        "ce_origintime": now,
    }
    return Sample(event, key.encode(), body.encode(), list(headers.items()))


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
