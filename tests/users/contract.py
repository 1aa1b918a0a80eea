"""What users promises on the wire, field by field: `tests/contracts/` holds the events against it."""

from typing import Any

from chassis.events.event import Event
from tests.contracts.values import ID, NOW, NOW_ON_THE_WIRE
from users.events import UserCreated

CONTRACTS: list[tuple[Event, dict[str, Any]]] = [
    (
        UserCreated(user_id=str(ID), email="ada@example.org", name="Ada", created_at=NOW),
        {"userId": str(ID), "email": "ada@example.org", "name": "Ada", "createdAt": NOW_ON_THE_WIRE},
    ),
]
