"""Keeping personal data and secrets out of logs."""

import re
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

HIDDEN = "[hidden]"

# Names of values that are masked anywhere in a log line, in lower case with underscores.
MASKED = frozenset(
    {
        "address", "api_key", "apikey", "authorization", "body", "cookie", "cookies", "customer_name", "data", "email",
        "first_name", "full_name", "last_name", "name", "passwd", "password", "payload", "phone", "proxy_authorization",
        "secret", "secret_key", "sessionid", "set_cookie", "token", "access_token", "refresh_token", "user_name",
        "username",
    }
)  # fmt: skip

_PATTERNS = (
    # postgresql://user:password@host
    (re.compile(r"://[^/\s@]*@"), f"://{HIDDEN}@"),
    # The length is limited, since the regular expression searches for the @ from each character of a long word.
    (re.compile(r"(?:[^\s@\"'<>(),;:=\[\]][^\s@\"<>(),;:\[\]]{0,255}|['=])@[\w-]+(?:\.[\w-]+)+"), HIDDEN),
    # PostgreSQL: DETAIL:  Key (email)=(…) already exists.
    (re.compile(r"\n(?:DETAIL|CONTEXT):.*?(?=\n\n|\nTraceback|\Z)", re.DOTALL), f"\nDETAIL: {HIDDEN}"),
    # PostgreSQL: LINE 1: INSERT INTO "users" … VALUES ('ada@example.org', 'Ada'), and the caret below it.
    (re.compile(r"\nLINE \d+:[^\n]*(?:\n *\^)?"), f"\nLINE: {HIDDEN}"),
    # pydantic: input_value='…', input_type=str
    (re.compile(r"input_value=.*?, input_type=", re.DOTALL), f"input_value={HIDDEN}, input_type="),
)

_QUOTED = r"""(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""

_VALUES = (
    # PostgreSQL: invalid input syntax for type uuid: "…"; value "…" is out of range for type integer
    (
        re.compile(
            r"((?:invalid input (?:syntax|value) for [^:\n]*|malformed [a-z]+ literal|[a-z/ ]+ out of range|invalid [a-z]+ value): )"
            r'".*?"(?=\n|\s*\Z)',
            re.DOTALL,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(rf"\b(value|time zone) {_QUOTED}(?= is out of range| not recognized)"), rf"\1 {HIDDEN}"),
    # Python: invalid literal for int() with base 10: '…'; time data '…' does not match format; '…' is not a valid Status
    (
        re.compile(
            rf"(invalid literal for \w+\(\)[^:\n]*: |could not convert string to \w+: |Invalid isoformat string: |time data ){_QUOTED}"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(unconverted data remains: ).*?(?=\n\n|\nTraceback|\Z)", re.DOTALL), rf"\1{HIDDEN}"),
    (re.compile(rf"{_QUOTED}(?= is not a valid )"), HIDDEN),
    # Django: Field 'id' expected a number but got '…'; “…” is not a valid UUID
    (re.compile(rf"(\bbut got |Invalid HTTP_HOST header: ){_QUOTED}"), rf"\1{HIDDEN}"),
    (
        re.compile(r"(Cannot resolve keyword|Unsupported lookup) '.*?' (?=into field|for )", re.DOTALL),
        rf"\1 {HIDDEN} ",
    ),
    (re.compile(r"“[^”]*”"), HIDDEN),
)


def scrub(text: str) -> str:
    """Remove email addresses, credentials in URLs, and the values that PostgreSQL and pydantic quote from `text`."""
    if "@" in text or "\n" in text or "input_value=" in text:
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
    return text


def scrub_error(text: str) -> str:
    """`scrub`, and remove the values that PostgreSQL, Python and Django quote in errors. For messages and tracebacks."""
    text = scrub(text)
    for pattern, replacement in _VALUES:
        text = pattern.sub(replacement, text)
    return text


def mask(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide values with names in MASKED, at any depth, and scrub all text; a structlog processor."""
    for key, value in event.items():
        if is_masked(key):
            event[key] = HIDDEN
        elif isinstance(value, str):
            event[key] = scrub(value)
        elif not isinstance(value, (int, float)):
            event[key] = _masked(value)
    return event


@lru_cache(1000)
def is_masked(name: str) -> bool:
    """Whether a value of this name is hidden."""
    return name.lower().replace("-", "_") in MASKED


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {key: HIDDEN if is_masked(str(key)) else _masked(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(inner) for inner in value]
    return value
