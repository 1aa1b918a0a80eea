"""Keys, headers and payloads of records as text: JSON indented, binary in hexadecimal, personal data masked until it is requested."""

import contextlib
import hashlib
import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chassis.events import masking
from chassis.kafka.records import Headers

LONGEST = 65_536
"""Maximum number of characters of a payload on a page; of a binary one, a quarter of it in bytes."""
LONGEST_PREVIEW = 160
PREVIEWED_BYTES = 65_536
"""Larger payloads have no preview in a list."""
LINE_BYTES = 16
LONGEST_KEY_FILTER = 1_000
"""Maximum number of characters of a filter for a key."""
HASHED = "sha256:"
HASHED_KEY_BYTES = (LONGEST_KEY_FILTER - 2) // 2
"""A longer key is named in a filter by its hash."""

_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|r)")
_NUMBER = re.compile(r'"\\u0000([^"\\]*)\\u0000"')


@dataclass(frozen=True, slots=True)
class Shown:
    """A payload. `kind` is json, text, binary or none; `text` is None if it is hidden until personal data is requested."""

    kind: str
    size: int
    text: str | None
    masked: bool
    """Whether personal data is hidden in it."""
    cut: bool
    """Whether `text` is only its beginning."""


def shown(value: bytes | None, *, reveal: bool) -> Shown:
    """A payload for a page."""
    if value == b"":
        return Shown("text", 0, "", masked=False, cut=False)
    if value is not None and len(value) > masking.LONGEST:
        return _large(value, reveal=reveal)
    return shown_answer(masking.payload(value, reveal=reveal))


def shown_answer(answer: Mapping[str, Any]) -> Shown:
    """A payload as the services' endpoints for staff return it, for a page."""
    size, content, cut = int(answer["size"]), answer["content"], bool(answer["truncated"])
    kind = {"base64": "binary"}.get(answer["encoding"], str(answer["encoding"]))
    if content is not None:
        content = _hex(b64decode(content)) if kind == "binary" else indented(content) if kind == "json" else content
        content, is_cut = _cut(visible(content))
        cut = cut or is_cut or (kind == "binary" and size > LONGEST // 4)
    return Shown(kind, size, content, bool(answer["masked"]), cut)


def _large(value: bytes, *, reveal: bool) -> Shown:
    """The beginning of a payload that is too large to be masked."""
    begin = value[:LONGEST]
    try:
        begin.decode("utf-8")
        is_text = True
    except UnicodeDecodeError as error:
        is_text = error.start > len(begin) - 4  # the cut is within a character
    text = visible(begin.decode("utf-8", "ignore")) if is_text else _hex(begin)
    return Shown("text" if is_text else "binary", len(value), _cut(text)[0] if reveal else None, not reveal, cut=True)


def preview(value: bytes | None) -> str:
    """A payload in a line of a list, without personal data."""
    if value is None:
        return "no value"
    if len(value) > PREVIEWED_BYTES:
        return f"{len(value):,} bytes"
    answer = masking.payload(value, reveal=False)
    if answer["content"] is None:
        return "no JSON: hidden" if answer["encoding"] == "text" else "binary: hidden"
    return line(answer["content"], LONGEST_PREVIEW)


def key_text(key: bytes | None) -> str | None:
    """A key as text; in hexadecimal, after `0x`, if it is not UTF-8."""
    if key is None:
        return None
    try:
        return visible(key.decode())
    except UnicodeDecodeError:
        return f"0x{key.hex()}"


def key_filter(key: bytes) -> str:
    """A text of at most LONGEST_KEY_FILTER characters with which `has_key` finds exactly this key."""
    if len(key) > HASHED_KEY_BYTES:
        return f"{HASHED}{hashlib.sha256(key).hexdigest()}"
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = ""
    is_plain = text.isprintable() and text != "" and not text.startswith(("0x", HASHED)) and unescaped(text) == text
    return text if is_plain else f"0x{key.hex()}"


def has_key(text: str) -> Callable[[bytes | None], bool]:
    """Whether a key is meant by a text: the key itself, what `key_text` shows of it, or its `key_filter`."""
    keys = {one.encode("utf-8", "surrogatepass") for one in (text, unescaped(text))}
    if text.startswith("0x"):
        with contextlib.suppress(ValueError):
            keys.add(bytes.fromhex(text[2:]))
    digest = text.removeprefix(HASHED) if text.startswith(HASHED) else ""

    def is_meant(key: bytes | None) -> bool:
        if key is None:
            return False
        return key in keys or (
            digest != "" and len(key) > HASHED_KEY_BYTES and hashlib.sha256(key).hexdigest() == digest
        )

    return is_meant


def header_rows(headers: Headers, *, reveal: bool) -> list[tuple[str, str]]:
    """Headers for a page: name and value."""
    return shown_headers(masking.headers(headers, reveal=reveal))


def shown_headers(pairs: Iterable[Any] | None) -> list[tuple[str, str]]:
    """Headers as the services' endpoints for staff return them, for a page."""
    return [(visible(name), _header(value)) for name, value in pairs or ()]


def line(text: str, longest: int) -> str:
    """The beginning of a text, in one line."""
    flat = visible(" ".join(text[: 4 * longest].split()))
    return flat if len(flat) <= longest else f"{flat[:longest]} …"


def visible(text: str) -> str:
    r"""Text that can be shown: other characters than printable ones, line ends and tabs as escapes, such as `\x00`."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode("ascii") for one in text
    )


def unescaped(text: str) -> str:
    """The text that `visible` shows as this one, unless it has such escapes itself."""
    return _ESCAPE.sub(lambda found: _character(found[0]), text)


def _character(escape: str) -> str:
    try:
        return escape.encode("ascii").decode("unicode_escape")
    except UnicodeDecodeError:
        return escape


def visible_answer(answer: Any) -> Any:
    """An answer of a service, with `visible` applied to its texts."""
    if isinstance(answer, str):
        return visible(answer)
    if isinstance(answer, Mapping):
        return {name: visible_answer(value) for name, value in answer.items()}
    return [visible_answer(one) for one in answer] if isinstance(answer, list) else answer


def indented(text: str) -> str:
    """JSON with indentation, and its numbers digit by digit as they were sent; other text as it is."""
    try:
        value = json.loads(text, parse_float=lambda number: f"\0{number}\0")
        return _NUMBER.sub(r"\1", json.dumps(value, indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return text


def _header(value: Any) -> str:
    if value is None:
        return "(none)"
    text = f"0x{b64decode(value['base64']).hex()}" if isinstance(value, Mapping) else str(value)
    return _cut(visible(text))[0]


def _cut(text: str) -> tuple[str, bool]:
    return (text, False) if len(text) <= LONGEST else (text[:LONGEST], True)


def _hex(value: bytes) -> str:
    """Lines of offset, 16 bytes in hexadecimal, and the same as ASCII."""
    lines = []
    for at in range(0, min(len(value), LONGEST // 4), LINE_BYTES):
        part = value[at : at + LINE_BYTES]
        ascii_ = "".join(chr(one) if 32 <= one < 127 else "." for one in part)
        lines.append(f"{at:08x}  {part.hex(' '):<{3 * LINE_BYTES}} {ascii_}")
    return "\n".join(lines)
