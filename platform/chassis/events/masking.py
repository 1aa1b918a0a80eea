"""Payloads and headers of events without personal data, as staff see them unless they request it."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any

from chassis.kafka.records import Headers
from chassis.observability import privacy

LONGEST = 1_048_576
"""Maximum number of bytes of a payload, or of all headers, that are shown."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def payload(value: bytes | None, *, size: int | None = None, reveal: bool) -> dict[str, Any]:
    """A payload as JSON: its `size` in bytes, and its `content` as text in the `encoding` json, text or base64.

    Without `reveal`, values of JSON that may be personal are `[hidden]`, and content that is not JSON is not shown at all, since
    nothing says what it means; `masked` says so. `value` may be the beginning of a payload that has `size` bytes altogether.
    """
    if value is None:
        return _shown(0, "none", None)
    size = len(value) if size is None else size
    shown = value[:LONGEST]
    truncated = len(shown) < size
    if not truncated and (hidden := _hidden(shown)) is not None:
        content, masked = hidden
        return _shown(size, "json", shown.decode() if reveal else content, masked=masked and not reveal)
    encoding, content = _as_text(shown)
    return _shown(size, encoding, content if reveal else None, masked=not reveal, truncated=truncated)


def headers(pairs: Headers, *, reveal: bool) -> list[list[Any]]:
    """Headers as pairs of name and value; a value that is not text is `{"base64": …}`."""
    return [[name, _header(name, value, reveal=reveal)] for name, value in _first(pairs)]


def _shown(
    size: int, encoding: str, content: str | None, *, masked: bool = False, truncated: bool = False
) -> dict[str, Any]:
    return {"size": size, "encoding": encoding, "content": content, "masked": masked, "truncated": truncated}


def _hidden(value: bytes) -> tuple[str, bool] | None:
    """A JSON object or list without personal data, and whether there was any; None if it is none, or nested too deeply."""
    try:
        parsed = json.loads(value.decode())
        if not isinstance(parsed, dict | list):
            return None
        hidden = _masked(parsed)
        if hidden == parsed:
            return value.decode(), False
        return json.dumps(hidden, ensure_ascii=False), True
    except (ValueError, RecursionError):
        return None


def _as_text(value: bytes) -> tuple[str, str]:
    try:
        return "text", value.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(value).decode()


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: privacy.HIDDEN if _is_personal(name) and one is not None else _masked(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_masked(one) for one in value]
    return privacy.scrub(value) if isinstance(value, str) else value


def _is_personal(name: str) -> bool:
    """Whether a value of this name is hidden; names in JSON are camelCase."""
    return privacy.is_masked(_HUMP.sub("_", name[:200]))


def _first(pairs: Headers) -> Iterable[tuple[str, bytes | None]]:
    left = LONGEST
    for name, value in pairs:
        left -= len(name) + len(value or b"")
        if left < 0:
            return
        yield name, value


def _header(name: str, value: bytes | None, *, reveal: bool) -> Any:
    if value is None:
        return None
    encoding, text = _as_text(value)
    if reveal:
        return text if encoding == "text" else {encoding: text}
    if encoding != "text" or _is_personal(name):
        return privacy.HIDDEN
    return privacy.scrub(text)
