"""Redriving dead letters to their original topics, or discarding them; each exactly once.

For each dead letter, the event on the original topic and the resolution on the dead-letter topic are written in one Kafka
transaction, under a transactional id that exists once per group. A run first takes over that id, which aborts the open
transactions of other runs and fences them, and only then reads the unresolved dead letters. So each is resolved once, also
after kill -9, and if two runs are concurrent. See docs/adr/0017-redrive.md.
"""

import os
import pwd
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog
from django.conf import settings

from chassis.deadletters.record import EDITED_BY, REDRIVEN, REDRIVEN_FOR
from chassis.deadletters.store import RESOLVES, Action, Resolution, Store, StoredDeadLetter, Wanted
from chassis.kafka import names, send_spans
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.kafka.writer import Outbound, RecordRefused, Writer
from chassis.runtime.retries import RetryPolicy

log = structlog.get_logger(__name__)

BATCH = 100
"""Maximum number of dead letters in one transaction; while it is open, readers of the original topic wait."""

TICKS = 10
"""Maximum number of transactions per second if there is a rate limit, so that the rate is even."""

FENCED_AGAIN = RetryPolicy(attempts=8, base=0.5, cap=8.0)
"""For a run that was fenced by another one: it waits, and then continues with the remaining dead letters."""


def whoami() -> str:
    """The name of the operating system's user that runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, a user may have no name
        return f"uid {os.getuid()}"


def is_forgotten(letter: StoredDeadLetter) -> bool:
    """Whether the event was dead-lettered so long ago that the service's inbox may no longer contain it.

    A consumer that was killed between writing a dead letter and committing its offset tries the event again, and may have
    processed it then. Within INBOX_RETENTION_HOURS the inbox recognises this, and a redrive has no effect.
    """
    if not settings.SERVICE_DATABASE or letter.died_at is None:
        return False
    return datetime.now(UTC) - letter.died_at > timedelta(hours=settings.INBOX_RETENTION_HOURS)


@dataclass(slots=True)
class Result:
    """The result of a run."""

    done: list[str] = field(default_factory=list)
    """Ids of the dead letters that were resolved."""
    refused: dict[str, str] = field(default_factory=dict)
    """Ids of those that the broker refused, and why; they remain unresolved."""
    forgotten: list[str] = field(default_factory=list)
    """Ids of those that are older than the inbox's retention time; they remain unresolved."""
    stopped: bool = False
    """Whether it was told to stop before the end."""


@dataclass(kw_only=True)
class Run:
    """A run that redrives or discards the wanted dead letters."""

    action: Action
    wanted: Wanted
    by: str
    rate: float | None = None
    """Maximum number of dead letters per second; None is no limit."""
    limit: int | None = None
    """Maximum number of dead letters."""
    force: bool = False
    """Also redrive those that are older than the inbox's retention time (see `is_forgotten`)."""
    why: str = ""
    """The reason for the decision, which is stored with it."""
    payload: bytes | None = None
    """Redrive with this payload in place of the original one, which remains in the dead letter; for a single dead letter."""
    patience: Patience
    stop: Callable[[], object] = lambda: False
    result: Result = field(default_factory=Result)

    def __post_init__(self) -> None:
        """A payload is that of one event."""
        assert self.payload is None or (self.action == "redriven" and len(self.wanted.ids) == 1), "one dead letter"

    def run(self) -> Result:
        """Redrive or discard all of them.

        Raises DependencyDown if Kafka does not respond, and Fenced if other runs keep taking over. In both cases, the dead
        letters resolved so far remain resolved, and another run continues with the rest.
        """
        tries = 0
        while True:
            before = len(self.result.done)
            try:
                self._run_once()
            except Fenced:
                tries = 1 if len(self.result.done) > before else tries + 1
                delay = FENCED_AGAIN.delay(tries)
                if delay is None:
                    raise
                log.info("another run took over, will continue after it", retry_in=round(delay, 1))
                self._sleep_until(time.monotonic() + delay)
            else:
                return self.result

    def _run_once(self) -> None:
        with Writer(names.redrive_id(), self.patience) as writer:
            letters = (
                letter
                for letter in Store(self.patience, settled=True).unresolved(self.wanted)
                if letter.id not in self.result.refused and not self._is_skipped(letter)
            )
            begun, already = time.monotonic(), len(self.result.done)
            while not self._stopped() and (batch := list(islice(letters, self._room()))):
                self._decide(writer, batch)
                if self.rate:
                    self._sleep_until(begun + (len(self.result.done) - already) / self.rate)

    def _is_skipped(self, letter: StoredDeadLetter) -> bool:
        skipped = self.action == "redriven" and not self.force and is_forgotten(letter)
        if skipped and letter.id not in self.result.forgotten:
            self.result.forgotten.append(letter.id)
        return skipped

    def _room(self) -> int:
        """How many dead letters the next transaction may contain."""
        size = BATCH if not self.rate else max(1, min(BATCH, int(self.rate / TICKS)))
        return size if self.limit is None else min(size, self.limit - len(self.result.done))

    def _decide(self, writer: Writer, batch: list[StoredDeadLetter]) -> None:
        """Write one transaction; if the broker refuses one of its dead letters, repeat it without that one."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        begun = time.time_ns()
        while batch:
            owners: list[StoredDeadLetter] = []
            records: list[Outbound] = []
            for letter in batch:
                for record in self._records(letter, now):
                    owners.append(letter)
                    records.append(record)
            try:
                writer.write(records)
            except RecordRefused as refusal:
                refused = owners[refusal.index]
                self.result.refused[refused.id] = str(refusal)
                log.error("dead letter cannot be redriven", reason=str(refusal), by=self.by, **_fields(refused))
                batch = [letter for letter in batch if letter is not refused]
            else:
                break
        for letter in batch:
            self.result.done.append(letter.id)
            if self.action == "redriven":
                _trace_redriven(letter, begun)
            more = {"edited": True} if self.payload is not None else {}
            log.info(f"dead letter {self.action}", by=self.by, why=self.why, **more, **_fields(letter))

    def _records(self, letter: StoredDeadLetter, now: str) -> Iterator[Outbound]:
        kept = letter.record
        if self.action == "redriven":
            headers = [
                *letter.original_headers(),
                (REDRIVEN, letter.id.encode()),
                (REDRIVEN_FOR, names.group().encode()),
            ]
            value = kept.value
            if self.payload is not None:
                value = self.payload
                headers.append((EDITED_BY, self.by.encode()))
            yield Outbound(letter.topic, kept.key, value, headers)
        edited = self.payload is not None
        resolution = Resolution(letter.id, self.action, self.by, now, self.why, edited)
        headers = [(RESOLVES, letter.id.encode()), ("content-type", b"application/json")]
        yield Outbound(kept.topic, letter.id.encode(), resolution.value(), headers, kept.partition)

    def _stopped(self) -> bool:
        self.result.stopped = bool(self.stop())
        return self.result.stopped

    def _sleep_until(self, then: float) -> None:
        while not self.stop() and (wait := then - time.monotonic()) > 0:
            time.sleep(min(wait, 0.2))


def _trace_redriven(letter: StoredDeadLetter, begun: int) -> None:
    """Record in the event's trace that it was redriven between `begun`, in nanoseconds since the epoch, and now."""
    kept = letter.record
    parent = send_spans.parent_of(kept.headers)
    if parent is None:
        return
    attributes = {
        "deadletter.id": letter.id,
        "deadletter.reason": letter.header("reason"),
        "deadletter.attempts": letter.header("attempts"),
    }
    send_spans.sent(
        letter.topic,
        kept.header("ce_id") or "",
        parent,
        begun=begun,
        ended=time.time_ns(),
        attributes=attributes,
        redrive_of=letter.id,
        links=[send_spans.link_to(kept.topic, letter.id, parent)],
    )


def _fields(letter: StoredDeadLetter) -> dict[str, object]:
    kept = letter.record
    return {
        "deadletter_id": letter.id,
        "topic": letter.topic,
        "key": None if letter.key is None else letter.key[:80],
        "event_id": kept.header("ce_id"),
        **kept.log_ids(),
        "kept_at": f"{kept.topic}/{kept.partition}/{kept.offset}",
    }
