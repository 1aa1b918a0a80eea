"""Dead letters: an event that nobody could handle, kept whole, with all that is needed to understand and redrive it."""

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
"""In characters, and in twice as many bytes: with them a letter of any record fits its topic, see `sizes.DIAGNOSTICS`."""

REDRIVEN = PREFIX + "redriven"
"""On an event that was redriven: the dead letter's id."""
REDRIVEN_FOR = PREFIX + "redriven-for"
"""On an event that was redriven: the consumer group that could not handle it. No other group has any use for it."""


def is_for_us(record: Record) -> bool:
    """Whether the running service is to handle this record: not if it was redriven for another group.

    The others have met it as it came first, and may have forgotten that by now: dead letters outlive the inbox.
    """
    redriven_for = record.header(REDRIVEN_FOR)
    return redriven_for is None or redriven_for == names.group()


def without_diagnostics(headers: Headers) -> Headers:
    """The headers of a dead letter without its traceback, and with the beginning of its error only."""
    error, trace = f"{PREFIX}error", f"{PREFIX}traceback"
    kept = [(name, value) for name, value in headers if name != trace]
    return [(name, _first(value or b"", LONGEST_OTHER) if name == error else value) for name, value in kept]


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """A record that could not be processed, and why: what a dead letter is made of."""

    record: Record
    error: BaseException
    attempts: int

    @property
    def id(self) -> str:
        """The same for the same death: a repeat after a crash is recognised."""
        r = self.record
        return str(
            uuid.uuid5(NAMESPACE, f"{settings.SERVICE_NAME}/{r.topic}/{r.partition}/{r.offset}/{r.timestamp_ms}")
        )

    @property
    def reason(self) -> str:
        """One of few words: unreadable, timeout, crash, handler."""
        if isinstance(self.error, Unreadable):
            return "unreadable"
        if isinstance(self.error, Crashed):
            return "crash"
        return "timeout" if isinstance(self.error, HandlerTimeout) else "handler"

    def headers(self) -> Headers:
        """The record's own headers, unchanged, and ours behind them. Where it died before, only the last death counts.

        Ours take `sizes.DIAGNOSTICS` bytes at most, whatever was raised.
        """
        r = self.record
        ours = {
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
            ours["redriven-from"] = before
        kept = [(name, value) for name, value in r.headers if not name.startswith(PREFIX)]
        return kept + [(PREFIX + name, _bytes(name, text)) for name, text in ours.items()]


def _bytes(name: str, text: str) -> bytes:
    """Of a traceback the end tells most."""
    encoded = text.encode("utf-8", "backslashreplace")
    if name == "traceback":
        return encoded[-2 * LONGEST_TRACEBACK :].decode("utf-8", "ignore").encode()
    return _first(encoded, 2 * LONGEST_ERROR if name == "error" else 2 * LONGEST_OTHER)


def _first(encoded: bytes, most: int) -> bytes:
    """So many bytes at most, and no half character."""
    return encoded[:most].decode("utf-8", "ignore").encode()


def _traceback(error: BaseException) -> str:
    """Where it was raised: lines of code, no values."""
    try:
        return "".join(traceback.format_exception(error, chain=False))
    except Exception:  # noqa: BLE001  one that cannot say what it is
        return "".join(traceback.format_tb(error.__traceback__))
