"""The base class of events: a fact with a topic, a version and a payload. Services share its JSON, not its class."""

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
"""An amount of money: a Decimal in Python, a number with two decimals in JSON."""


class Event(BaseModel):
    """A fact that a service publishes, or a consumer's own model of one.

    Fields are snake_case in Python and camelCase on the wire. Readers are tolerant: unknown fields are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    topic: ClassVar[str]
    """The event's name, which is also the name of its topic, after KAFKA_PREFIX (see kafka/names.py)."""
    version: ClassVar[int] = 1

    def payload(self) -> bytes:
        """The payload on Kafka: camelCase JSON, times in RFC 3339 UTC, money with two decimals."""
        return json.dumps(self.model_dump(by_alias=True))
