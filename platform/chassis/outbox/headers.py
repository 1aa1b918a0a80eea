"""The headers of a record as the outbox stores them: JSON that preserves every byte."""

import base64
from typing import Any

import orjson

from chassis.kafka.records import Headers


def headers_to_json(headers: Headers) -> str:
    """Encode headers for the column: values that are text as text, and other bytes as {"base64": …}."""
    return orjson.dumps([(name, _to_json(value)) for name, value in headers]).decode()


def _to_json(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
    return {"base64": base64.b64encode(value).decode()} if "\0" in text else text


def headers_from_json(text: str) -> Headers:
    """Decode the column into the headers that `headers_to_json` encoded, byte for byte."""
    return [(name, _from_json(value)) for name, value in orjson.loads(text)]


def _from_json(value: Any) -> bytes | None:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return None if value is None else value.encode()
