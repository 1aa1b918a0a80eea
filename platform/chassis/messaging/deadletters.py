"""Dead letters: an event that nobody could handle, kept whole, with all that is needed to understand and redrive it."""

import traceback
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from chassis.messaging.envelope import Unreadable
from chassis.messaging.failures import Crashed, HandlerTimeout
from chassis.messaging.records import Headers, Record
from chassis.observability import privacy

NAMESPACE = uuid.UUID("6f7f7ac3-5d0b-4a9e-9a53-0a4d3c1f8f0e")
PREFIX = "deadletter-"
LONGEST_TRACEBACK = 8_000


def topic_of(topic: str) -> str:
    """The dead-letter topic of `topic` for the running service's consumer group."""
    return f"{topic}.{settings.SERVICE_NAME}.dlq"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that died, and why."""

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
        """The record's own headers, unchanged, and ours behind them. Where it died before, only the last death counts."""
        r = self.record
        ours = {
            "id": self.id,
            "reason": self.reason,
            "error": privacy.scrub(f"{type(self.error).__name__}: {self.error}")[:2_000],
            "traceback": privacy.scrub(_traceback(self.error))[-LONGEST_TRACEBACK:],
            "topic": r.topic,
            "partition": str(r.partition),
            "offset": str(r.offset),
            "timestamp": str(r.timestamp_ms),
            "group": settings.SERVICE_NAME,
            "attempts": str(self.attempts),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        if before := r.header(PREFIX + "redriven"):
            ours["redriven-from"] = before
        kept = [(name, value) for name, value in r.headers if not name.startswith(PREFIX)]
        return kept + [(PREFIX + name, value.encode("utf-8", "backslashreplace")) for name, value in ours.items()]


def _traceback(error: BaseException) -> str:
    """Where it was raised: lines of code, no values."""
    return "".join(traceback.format_exception(error, chain=False))
