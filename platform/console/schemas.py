"""Checking payloads against the JSON Schema that a service publishes its events with."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chassis.kafka.records import Record
from console.sources.remembered import Remembered
from console.sources.staff import Staff

FRESH_SECONDS = 10.0
CHECKED_BYTES = 1_048_576
"""Larger payloads are not checked."""
MOST_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check: `verdict` is valid, invalid or unchecked; `schema` is the schema's id; `problems` contain no values."""

    verdict: str
    schema: str
    problems: tuple[str, ...] = ()


class Information:
    """What each service says of itself at `/staff/info`. Safe to use from several threads."""

    def __init__(self, staff: Staff) -> None:
        self._answers: Remembered[dict[str, Any]] = Remembered(
            staff.services, lambda service: staff.get(service, "info"), FRESH_SECONDS
        )

    def services(self) -> Mapping[str, dict[str, Any]]:
        """The answers by service; the last one of a service that does not respond now."""
        return {name: said.value for name, said in self._answers.read().items() if said.value is not None}

    def publisher(self, topic: str) -> str | None:
        """The service that publishes events to this topic, given by its name on the wire."""
        return next(
            (name for name, one in self.services().items() if any(_is_of(event, topic) for event in _published(one))),
            None,
        )

    def check(self, record: Record, topic: str) -> Checked:
        """Check the payload of a record against the schema that it names, or that the events of its original `topic` have."""
        named = record.header("ce_dataschema") or ""
        schemas = [
            event["schema"] for one in self.services().values() for event in _published(one) if _is_of(event, topic)
        ]
        schema = next((one for one in schemas if one.get("$id") == named), None)
        if schema is None and not named and schemas:
            schema = schemas[0]
        if schema is None:
            reason = f"no service publishes events with the schema {named[:200]}" if named else "no schema is known"
            return Checked("unchecked", named[:200], (reason,))
        return check(record.value, schema)


def _published(information: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    found = information.get("publishes")
    return found if isinstance(found, list) else ()


def _is_of(event: Mapping[str, Any], topic: str) -> bool:
    return topic in {event.get("topic_on_the_wire"), event.get("topic")}


def check(value: bytes | None, schema: Mapping[str, Any]) -> Checked:
    """Check a payload against a schema."""
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import SchemaError

    name = str(schema.get("$id") or "")
    if value is None:
        return Checked("invalid", name, ("there is no payload",))
    if len(value) > CHECKED_BYTES:
        return Checked("unchecked", name, (f"it is larger than {CHECKED_BYTES:,} bytes",))
    try:
        payload = json.loads(value.decode())
    except (ValueError, RecursionError):
        return Checked("invalid", name, ("it is not JSON",))
    try:
        Draft202012Validator.check_schema(schema)
        found = Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(payload)
        problems = tuple(_problem(error) for error, _ in zip(found, range(MOST_PROBLEMS), strict=False))
    except (SchemaError, RecursionError) as error:
        return Checked("unchecked", name, (f"the schema cannot be used: {type(error).__name__}",))
    return Checked("invalid" if problems else "valid", name, problems)


def _problem(error: Any) -> str:
    """What is wrong, without values: they may be personal data."""
    place = ".".join(map(str, error.absolute_path)) or "payload"
    if error.validator == "required":
        return f"{place}: {error.message[:200]}"
    return f"{place[:200]}: violates {error.validator}: {json.dumps(error.validator_value)[:200]}"
