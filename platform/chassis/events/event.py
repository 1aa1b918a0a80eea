"""What an event is: a fact with a topic, a version and a payload that both sides know by its JSON, not by its class."""

from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from chassis import json

Money = Annotated[
    Decimal,
    Field(ge=0, max_digits=12, decimal_places=2),
    WithJsonSchema({"type": "number", "minimum": 0, "description": "Money, with two decimals."}),
]
"""An amount of money: a Decimal inside, a JSON number with two decimals outside."""


class Event(BaseModel):
    """A fact that a service publishes, or its own reading of one that it consumes.

    Fields are snake_case here and camelCase on the wire. Readers are tolerant: a field that they do not know is ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    topic: ClassVar[str]
    """The event's name; its topic is called so too, behind KAFKA_PREFIX (see names.py)."""
    version: ClassVar[int] = 1

    def payload(self) -> bytes:
        """The event as it stands on Kafka: camelCase JSON, times in RFC 3339 UTC, money with two decimals."""
        return json.dumps(self.model_dump(by_alias=True))
