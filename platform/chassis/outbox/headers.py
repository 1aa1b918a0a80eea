"""The headers of a record as the outbox stores them: JSON that preserves every byte."""

import base64
from typing import Any

import orjson

from chassis.kafka.records import Headers
from chassis.observability import correlation, tracing


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


def log_ids(headers: Any) -> dict[str, str]:
    """The request id, trace id and span id in a row's headers, as text or parsed, for a log line. Raises nothing."""
    try:
        found = dict(orjson.loads(headers) if isinstance(headers, str) else headers or ())
    except (ValueError, TypeError):  # a row that was not written by this code may contain anything
        found = {}
    request_id, traceparent = (value if isinstance(value := found.get(name), str) else "" for name in _IDS)
    trace_id, span_id = tracing.ids_of(traceparent)
    return {
        "request_id": request_id if correlation.sane(request_id) else "",
        "trace_id": trace_id,
        "span_id": span_id,
    }


_IDS = ("requestId", "traceparent")


def headers_from_json(text: str) -> Headers:
    """Decode the column into the headers that `headers_to_json` encoded, byte for byte."""
    return [(name, value.encode() if type(value) is str else _from_json(value)) for name, value in orjson.loads(text)]


def _from_json(value: Any) -> bytes | None:
    return None if value is None else base64.b64decode(value["base64"])
