"""Topics that cannot be written at present: their rows wait, and no others. No access to Kafka or the database."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from chassis.observability import metrics
from chassis.runtime.retries import RetryPolicy

log = structlog.get_logger(__name__)

RETRY = RetryPolicy(attempts=1_000_000_000, base=0.5, factor=2.0, cap=5.0)
"""The intervals at which one row of such a topic is tried."""

HINT = "create or change the topic with `manage.py topics --apply` for the service that owns it, or grant WRITE on it"


@dataclass(slots=True)
class Wait:
    """A topic whose rows are tried one at a time: the first one until it is written, or all up to a position."""

    topic: str
    reason: str
    upto: int = 0
    """Rows up to this position are tried one at a time, since one of them was refused and it is not known which."""
    failures: int = 0
    next_try: float = 0.0
    since: float = field(default_factory=time.monotonic)


class TopicWaits:
    """The waiting topics, why they wait, and when to try each again. In `/health/ready` they belong to the check `broker`."""

    part = "broker"

    def __init__(self) -> None:
        self._waits: dict[str, Wait] = {}

    @property
    def up(self) -> bool:
        """Whether no topic waits."""
        return not any(wait.failures for wait in list(self._waits.values()))

    @property
    def why(self) -> str:
        """Which topics wait, and what to do."""
        waiting = sorted(wait.topic for wait in list(self._waits.values()) if wait.failures)
        return f"rows wait for {', '.join(waiting[:5])}: {HINT}"

    @property
    def topics(self) -> Collection[str]:
        """The topics whose rows must not be sent in batches."""
        return self._waits.keys()

    def failed(self, topic: str, reason: str) -> None:
        """Note that a row of this topic could not be written, for a reason that applies to all of its rows."""
        wait = self._waits.setdefault(topic, Wait(topic, reason))
        if not wait.failures:
            log.error("outbox rows wait for their topic", topic=topic, reason=reason[:300], hint=HINT)
            metrics.OUTBOX_TOPIC_WAITS.labels(topic).set(1)
        wait.failures += 1
        wait.next_try = time.monotonic() + (RETRY.delay(wait.failures) or 0.0)

    def one_by_one(self, topic: str, upto: int, reason: str) -> None:
        """Note that the broker refused a batch of this topic, up to position `upto`, of which one row may be the cause."""
        wait = self._waits.setdefault(topic, Wait(topic, reason))
        wait.upto = max(wait.upto, upto)

    def written(self, topic: str, position: int) -> None:
        """Note that a row was written alone, or parked."""
        wait = self._waits.get(topic)
        if wait is None:
            return
        if wait.failures:
            waited = round(time.monotonic() - wait.since, 1)
            log.info("the topic accepts outbox rows again", topic=topic, seconds=waited, tries=wait.failures)
            metrics.OUTBOX_TOPIC_WAITS.labels(topic).set(0)
        wait.failures, wait.next_try = 0, 0.0
        if position >= wait.upto:
            del self._waits[topic]

    def nothing_left(self, topic: str) -> None:
        """Note that the topic has no unsent rows."""
        if topic in self._waits:
            self.written(topic, self._waits[topic].upto)

    def due(self, most: int, besides: Collection[str]) -> list[Wait]:
        """Up to `most` topics of which a row may be tried now, most overdue first, except `besides`."""
        now = time.monotonic()
        found = [wait for wait in self._waits.values() if wait.next_try <= now and wait.topic not in besides]
        return sorted(found, key=lambda wait: wait.next_try)[:most]
