"""The record of a dead letter: the original record, with everything that is needed to understand and redrive it."""

import traceback
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from chassis import exceptions
from chassis.events.envelope import Unreadable
from chassis.kafka import names
from chassis.kafka.records import Headers, Record
from chassis.observability import privacy
from chassis.runtime.failures import Crashed, HandlerTimeout

NAMESPACE = uuid.UUID("6f7f7ac3-5d0b-4a9e-9a53-0a4d3c1f8f0e")
PREFIX = "deadletter-"

LONGEST_ERROR = 2_000
LONGEST_TRACEBACK = 8_000
LONGEST_OTHER = 300
"""Limits in characters, and twice as many bytes, so that the dead letter of any record fits: see `sizes.DIAGNOSTICS`."""

KINDS: dict[type[BaseException], str] = {Unreadable: "unreadable", Crashed: "crash", HandlerTimeout: "timeout"}
OTHER_KIND = "handler"
REASONS = (*KINDS.values(), OTHER_KIND)
"""All reasons for which an event fails."""

REDRIVEN = PREFIX + "redriven"
"""Header of a redriven event: the id of the dead letter."""
REDRIVEN_FOR = PREFIX + "redriven-for"
"""Header of a redriven event: the consumer group that could not process it, and for which alone it is redriven."""

EDITED_BY = PREFIX + "edited-by"
"""Header of an event that was redriven with another payload: who wrote that. The dead letter contains the original."""


def is_for_us(record: Record) -> bool:
    """Whether the running service must process this record, which is not the case if it was redriven for another group.

    Other groups received the original record. Their inboxes may no longer contain it, since dead letters outlive the inbox.
    """
    redriven_for = record.header(REDRIVEN_FOR)
    return redriven_for is None or redriven_for == names.group()


def without_diagnostics(headers: Headers) -> Headers:
    """Remove the traceback from the headers of a dead letter, and truncate its error."""
    error, trace = f"{PREFIX}error", f"{PREFIX}traceback"
    kept = [(name, value) for name, value in headers if name != trace]
    return [(name, _first(value or b"", LONGEST_OTHER) if name == error else value) for name, value in kept]


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """A record that could not be processed, and the error: the content of a dead letter."""

    record: Record
    error: BaseException
    attempts: int

    @property
    def id(self) -> str:
        """The id of the dead letter. It is deterministic, so that a duplicate that a crash causes is recognised."""
        r = self.record
        return str(
            uuid.uuid5(NAMESPACE, f"{settings.SERVICE_NAME}/{r.topic}/{r.partition}/{r.offset}/{r.timestamp_ms}")
        )

    @property
    def reason(self) -> str:
        """The reason: one of REASONS."""
        return next((reason for kind, reason in KINDS.items() if isinstance(self.error, kind)), OTHER_KIND)

    def headers(self) -> Headers:
        """The record's own headers, unchanged, followed by those of dead-lettering, which replace earlier ones.

        The added headers take at most `sizes.DIAGNOSTICS` bytes, whatever was raised.
        """
        r = self.record
        added = {
            "id": self.id,
            "reason": self.reason,
            "error": privacy.scrub(f"{type(self.error).__name__}: {exceptions.message(self.error)}")[:LONGEST_ERROR],
            "traceback": privacy.scrub(_traceback(self.error)[-exceptions.MOST_READ :])[-LONGEST_TRACEBACK:],
            "topic": r.topic,
            "partition": str(r.partition),
            "offset": str(r.offset),
            "timestamp": str(r.timestamp_ms),
            "group": names.group(),
            "attempts": str(self.attempts),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        if before := r.header(PREFIX + "redriven"):
            added["redriven-from"] = before
        if editor := r.header(EDITED_BY):
            added["edited-by"] = editor
        kept = [(name, value) for name, value in r.headers if not name.startswith(PREFIX)]
        return kept + [(PREFIX + name, _bytes(name, text)) for name, text in added.items()]


def _bytes(name: str, text: str) -> bytes:
    """Encode and truncate a header value. A traceback is truncated at its beginning, since its end is the most useful part."""
    encoded = text.encode("utf-8", "backslashreplace")
    if name == "traceback":
        return encoded[-2 * LONGEST_TRACEBACK :].decode("utf-8", "ignore").encode()
    return _first(encoded, 2 * LONGEST_ERROR if name == "error" else 2 * LONGEST_OTHER)


def _first(encoded: bytes, most: int) -> bytes:
    """Truncate UTF-8 text to this many bytes, at a character boundary."""
    return encoded[:most].decode("utf-8", "ignore").encode()


def _traceback(error: BaseException) -> str:
    """The traceback of an error: lines of code, without values."""
    try:
        return "".join(traceback.format_exception(error, chain=False))
    except Exception:  # noqa: BLE001  formatting a foreign exception may raise anything
        return "".join(traceback.format_tb(error.__traceback__))
