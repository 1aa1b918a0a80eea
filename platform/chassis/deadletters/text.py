"""Dead letters as text: a line in a list, or a page."""

import json

from chassis.deadletters.store import Resolution, StoredDeadLetter
from chassis.events import masking

LONGEST_BINARY = 10_000


def line(letter: StoredDeadLetter, resolution: Resolution | None = None) -> str:
    """A dead letter in one line."""
    parts = [
        letter.id,
        letter.at or "-",
        f"{letter.topic}/{letter.header('partition')}/{letter.header('offset')}",
        f"key={shown(letter.key or '-')[:80]}",
        f"{letter.header('reason')} after {letter.header('attempts')}",
        shown(letter.error)[:120],
    ]
    if resolution:
        parts.append(f"[{resolution.action} by {resolution.by} at {resolution.at}]")
    return "  ".join(parts)


def shown(text: str) -> str:
    """Replace characters that a terminal would interpret."""
    return "".join(character if character.isprintable() else " " for character in text)


def details(letter: StoredDeadLetter, resolution: Resolution | None = None) -> str:
    """A dead letter in full."""
    facts = [f"{name + ':':17}{'' if value is None else shown(str(value))}" for name, value in letter.summary().items()]
    facts.append(f"{'kept at:':17}{letter.record.topic}/{letter.record.partition}/{letter.record.offset}")
    if resolution:
        facts.append(f"{'resolved:':17}{resolution.action} by {resolution.by} at {resolution.at}")
    return "\n".join([*facts, "", "headers:", headers(letter), "", "payload:", payload(letter), "", trace(letter)])


def trace(letter: StoredDeadLetter) -> str:
    """The traceback."""
    return "\n".join(shown(text) for text in letter.traceback.splitlines())


def headers(letter: StoredDeadLetter, *, reveal: bool = True) -> str:
    """The event's own headers, one per line; without `reveal`, without personal data."""
    if reveal:
        return "\n".join(f"  {name}: {_text(value)}" for name, value in letter.original_headers())
    hidden = masking.headers(letter.original_headers(), reveal=False)
    return "\n".join(f"  {name}: {'(none)' if value is None else shown(value)}" for name, value in hidden)


def payload(letter: StoredDeadLetter, *, reveal: bool = True) -> str:
    """The payload: formatted JSON if it is JSON, otherwise a bytes literal; without `reveal`, without personal data."""
    value = letter.record.value
    if value is None:
        return "(none)"
    if not reveal:
        content = masking.payload(value, reveal=False)["content"]
        if content is None:
            return f"({len(value)} bytes that are not JSON: hidden)"
        value = content.encode()
    try:
        text = json.dumps(json.loads(value), indent=2, ensure_ascii=False)
        return "\n".join(map(_escaped, text.split("\n")))
    except (ValueError, RecursionError):
        return repr(value[:LONGEST_BINARY]) + (" ..." if len(value) > LONGEST_BINARY else "")


def _text(value: bytes | None) -> str:
    if value is None:
        return "(none)"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return repr(value)
    return text if text.isprintable() else repr(value)


def _escaped(text: str) -> str:
    """Escape characters that cannot be encoded (half of a surrogate pair), or that a terminal would interpret."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
