"""Deciding about dead letters: back to the topic that they came from, or done with; each exactly once.

What is written about a letter, its event on the original topic and the resolution on the dead-letter topic, is one Kafka
transaction, under a name of which there is one a group. Whoever begins takes that name, which ends what others had open
and fences them off; only then it reads what is left to decide. So it is once each, also after kill -9 in the middle, and
when two run at once. See docs/adr/0017-redrive.md.
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

from chassis.deadletters.record import REDRIVEN, REDRIVEN_FOR
from chassis.deadletters.store import RESOLVES, Action, Resolution, Store, StoredDeadLetter, Wanted
from chassis.kafka import names
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.kafka.writer import Outbound, RecordRefused, Writer
from chassis.runtime.retries import RetryPolicy

log = structlog.get_logger(__name__)

BATCH = 100
"""Most letters in one transaction; while it is open, readers of the original topic wait."""

TICKS = 10
"""With a rate, so many transactions a second at most, so that it is smooth."""

FENCED_AGAIN = RetryPolicy(attempts=8, base=0.5, cap=8.0)
"""For a run that another one took over: it stands back for a moment and goes on with what is then left."""


def whoami() -> str:
    """The operating system's name of whoever runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container a user may be but a number
        return f"uid {os.getuid()}"


def is_forgotten(letter: StoredDeadLetter) -> bool:
    """Whether the event died so long ago that the service's inbox may have forgotten it.

    A consumer that ended between a death and its offset tries the event once more, and may have handled it then: within
    INBOX_RETENTION_HOURS the inbox knows that, and a redrive changes nothing. Later nobody does.
    """
    if not settings.SERVICE_DATABASE or letter.died_at is None:
        return False
    return datetime.now(UTC) - letter.died_at > timedelta(hours=settings.INBOX_RETENTION_HOURS)


@dataclass(slots=True)
class Result:
    """What became of a run."""

    done: list[str] = field(default_factory=list)
    """Ids of the letters that were decided about."""
    refused: dict[str, str] = field(default_factory=dict)
    """Ids of those that the broker would not take back, and why; nothing was decided about them."""
    forgotten: list[str] = field(default_factory=list)
    """Ids of those that died before the inbox's memory begins; nothing was decided about them."""
    stopped: bool = False
    """Whether it was told to stop before the end."""


@dataclass(kw_only=True)
class Run:
    """One redrive, or one discarding, of the wanted letters by a person."""

    action: Action
    wanted: Wanted
    by: str
    rate: float | None = None
    """Most letters a second; None is no limit."""
    limit: int | None = None
    """Most letters in all."""
    force: bool = False
    """Also redrive what died before the inbox's memory begins (see `is_forgotten`)."""
    patience: Patience
    stop: Callable[[], object] = lambda: False
    result: Result = field(default_factory=Result)

    def run(self) -> Result:
        """Decide about all of them.

        Raises DependencyDown when Kafka does not answer, and Fenced when other runs keep taking over; either way what
        was decided stays so, and another run goes on with what is left.
        """
        tries = 0
        while True:
            before = len(self.result.done)
            try:
                self._go()
            except Fenced:
                tries = 1 if len(self.result.done) > before else tries + 1
                delay = FENCED_AGAIN.delay(tries)
                if delay is None:
                    raise
                log.info("another run about dead letters took over, will go on after it", retry_in=round(delay, 1))
                self._sleep_until(time.monotonic() + delay)
            else:
                return self.result

    def _go(self) -> None:
        with Writer(names.redrive_id(), self.patience) as writer:
            letters = (
                letter
                for letter in Store(self.patience, settled=True).unresolved(self.wanted)
                if letter.id not in self.result.refused and not self._is_left(letter)
            )
            begun, already = time.monotonic(), len(self.result.done)
            while not self._stopped() and (batch := list(islice(letters, self._room()))):
                self._decide(writer, batch)
                if self.rate:
                    self._sleep_until(begun + (len(self.result.done) - already) / self.rate)

    def _is_left(self, letter: StoredDeadLetter) -> bool:
        left = self.action == "redriven" and not self.force and is_forgotten(letter)
        if left and letter.id not in self.result.forgotten:
            self.result.forgotten.append(letter.id)
        return left

    def _room(self) -> int:
        """How many letters the next transaction may hold."""
        size = BATCH if not self.rate else max(1, min(BATCH, int(self.rate / TICKS)))
        return size if self.limit is None else min(size, self.limit - len(self.result.done))

    def _decide(self, writer: Writer, batch: list[StoredDeadLetter]) -> None:
        """One transaction; once more without it if the broker refuses one of them."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
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
            log.info(f"dead letter {self.action}", by=self.by, **_fields(letter))

    def _records(self, letter: StoredDeadLetter, now: str) -> Iterator[Outbound]:
        kept = letter.record
        if self.action == "redriven":
            headers = [
                *letter.original_headers(),
                (REDRIVEN, letter.id.encode()),
                (REDRIVEN_FOR, names.group().encode()),
            ]
            yield Outbound(letter.topic, kept.key, kept.value, headers)
        resolution = Resolution(letter.id, self.action, self.by, now)
        headers = [(RESOLVES, letter.id.encode()), ("content-type", b"application/json")]
        yield Outbound(kept.topic, letter.id.encode(), resolution.value(), headers, kept.partition)

    def _stopped(self) -> bool:
        self.result.stopped = bool(self.stop())
        return self.result.stopped

    def _sleep_until(self, then: float) -> None:
        while not self.stop() and (wait := then - time.monotonic()) > 0:
            time.sleep(min(wait, 0.2))


def _fields(letter: StoredDeadLetter) -> dict[str, object]:
    kept = letter.record
    return {
        "deadletter_id": letter.id,
        "topic": letter.topic,
        "key": None if letter.key is None else letter.key[:80],
        "event_id": kept.header("ce_id"),
        "request_id": kept.header("requestId"),
        "kept_at": f"{kept.topic}/{kept.partition}/{kept.offset}",
    }
