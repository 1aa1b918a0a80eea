"""The payloads of users, field by field; `tests/contracts/` compares its events with them."""

from typing import Any

from chassis.events import Event
from tests.contracts.values import ID, NOW, NOW_ON_THE_WIRE
from users.events import UserCreated

CONTRACTS: list[tuple[Event, dict[str, Any]]] = [
    (
        UserCreated(user_id=str(ID), email="ada@example.org", name="Ada", created_at=NOW),
        {"userId": str(ID), "email": "ada@example.org", "name": "Ada", "createdAt": NOW_ON_THE_WIRE},
    ),
]
