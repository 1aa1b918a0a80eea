"""What becomes of events that failed: waited for, taken apart, set aside, tried again, dead-lettered, or their topic stopped."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from django.conf import settings

from chassis.consumer.backlog import Backlog
from chassis.consumer.dispatch import Handlers
from chassis.consumer.pace import Pace
from chassis.consumer.schedule import COSTLY_SECONDS
from chassis.consumer.stop_the_line import Stopping
from chassis.consumer.unit_of_work import BatchResult, Readable, Terms, Transaction, Withheld
from chassis.database.failures import is_statement_timeout
from chassis.deadletters.record import FailedRecord
from chassis.kafka.errors import Fenced
from chassis.kafka.records import Record
from chassis.observability import metrics
from chassis.runtime.dependency import Dependency
from chassis.runtime.failures import DeadLetterRefused, HandlerFailed, HandlerTimeout, is_dependency
from chassis.runtime.retries import RECONNECT, service_policy

log = structlog.get_logger(__name__)

BEHIND_SECONDS = 0.1
"""So much later than all others a record is tried whose failure may be its own: whether they get through is what tells."""

TIMEOUT_ATTEMPTS = 3
"""An event whose handler does not return is tried with its full time limit at most so often: each try costs all others that
long, and a handler that hung three times hangs."""


class Triage:
    """Judges every failure of a consumer, and says what is tried next.

    What an exception is called proves nothing: a handler may raise any. So the database or the broker is waited for only
    if it does not answer a question of our own; else the event is found that is to blame, and whether it is shows in
    whether others get through.
    """

    def __init__(
        self,
        backlog: Backlog,
        handlers: Handlers,
        transaction: Callable[[], Transaction],
        dependency: Dependency,
        dead_letters: Dependency,
        say: Callable[[str, str], None] = lambda part, reason: None,
    ) -> None:
        self._backlog = backlog
        self._handlers = handlers
        self._transaction = transaction
        self._dependency = dependency
        self._dead_letters = dead_letters
        self._say = say
        self._policy = service_policy()
        self._pace = Pace()
        self.stopping = Stopping(settings.CONSUMER_STOP_AFTER_KEYS)
        self._limit = 0.0
        self._probed = False
        self._through_at = 0.0
        self._succeeded_at: dict[str, float] = {}

    # --- what is tried next, and how ---

    def may_work(self, now: float) -> bool:
        """Whether the dependency is there, as far as is known. One that was away is asked, not tried with events."""
        if not self._dependency.may_try(now):
            return False
        if not self._dependency.away:
            return True
        if self._is_away():
            return False
        self._dependency.answered()
        return True

    def take(self, now: float) -> list[Record]:
        """The next events to try together: a probe of a stopped topic now and then, else what the backlog has."""
        batch = [] if self._probed or not self.stopping.topics else self._next_probe(now)
        self._probed = bool(batch)
        return batch or self._backlog.take(
            self._pace.size(settings.CONSUMER_BATCH_SIZE), now, settings.CONSUMER_BATCH_BYTES
        )

    def _next_probe(self, now: float) -> list[Record]:
        for topic, failed in self.stopping.due(now):
            if (record := self._backlog.probe(topic, failed=failed)) is not None:
                return [record]
            self.stopping.probed(topic, 0.0, now, untried=False, more=False)
        return []

    def next_due(self) -> float | None:
        """When there is something to take beside what is fresh: 0.0 is now, None is never."""
        times = [at for at in (self._backlog.next_due(), self.stopping.next_probe()) if at is not None]
        return min(times, default=None)

    def terms(self, batch: Sequence[Record]) -> Terms:
        """How this batch is tried. What was set aside, or probes a stopped topic, has all the time of its handler."""
        alone = len(batch) == 1 and (batch[0].cost >= COSTLY_SECONDS or self.stopping.is_stopped(batch[0].topic))
        full = max(self._full_limit(record.topic) for record in batch)
        self._limit = full if alone else self._pace.limit(len(batch), full)
        return Terms(self._limit, self._check_unreadable)

    def _full_limit(self, topic: str) -> float:
        return self._handlers[topic].timeout or float(settings.HANDLER_TIMEOUT_SECONDS)

    def _check_unreadable(self, readable: Readable, dead: Sequence[FailedRecord]) -> None:
        """A reader that reads nothing is as broken as a handler that handles nothing. Raises Withheld."""
        topics_read = {record.topic for record, _ in readable}
        for topic in {failed.record.topic for failed in dead} - topics_read:
            records = [one.record for one in dead if one.record.topic == topic and not self._is_poison(one.record)]
            if not records:
                continue
            if self.stopping.is_stopped(topic) or self.stopping.enough(self.stopping.failing(topic, records)):
                raise Withheld(topic, next(failed.error for failed in dead if failed.record.topic == topic))

    def _is_poison(self, record: Record) -> bool:
        """Whether others of its topic succeeded since this one failed: then it is not the handler, or the reader."""
        return 0 < record.failed_at < self._succeeded_at.get(record.topic, 0.0)

    # --- success ---

    def succeeded(self, batch: list[Record], result: BatchResult, seconds: float) -> None:
        """All of this batch is done with."""
        now = self._through_at = time.monotonic()
        self._dependency.answered()
        if result.dead:
            self._dead_letters.answered()
        retried = len(batch) == 1 and batch[0].failed_at > 0
        if retried:
            self._backlog.took(batch[0], seconds, now)
        self._backlog.finish(batch)
        if not retried:
            suspects = self._pace.careful and self._backlog.costly
            self._pace.succeeded(len(batch), seconds, settings.CONSUMER_BATCH_SIZE, suspects=suspects)
        handled = {record.topic for record, _ in result.handled}
        for failed in result.dead:
            if failed.record.topic not in handled and not self._is_poison(failed.record):
                self.stopping.failed(failed.record)
            log_dead_letter(failed)
        for topic in handled:
            self._succeeded_at[topic] = now
            self._resume(topic, now)

    def _resume(self, topic: str, now: float) -> None:
        if (stopped := self.stopping.succeeded(topic)) is not None:
            self._backlog.resume(topic)
            self._say_what_is_stopped()
            log.info("topic resumes: an event succeeded", topic=topic, seconds=round(now - stopped.since, 1))

    # --- failure ---

    def failed(self, batch: list[Record], error: Exception, seconds: float) -> None:
        """Nothing of this batch happened. Raises Fenced, where it was not a handler that raised it."""
        cause: BaseException = error
        if isinstance(error, HandlerFailed):
            cause = error.error
        elif isinstance(error, Fenced):
            raise error
        self._transaction().reset(cause)
        if isinstance(error, Withheld):
            self._withhold(batch, error, seconds)
        elif isinstance(cause, HandlerTimeout) or is_statement_timeout(cause):
            self._timed_out(batch, cause, seconds)
        elif is_dependency(cause) and self._must_wait(error):
            self._backlog.put_back(batch)
        elif len(batch) > 1:
            self._backlog.split(batch)
        elif isinstance(error, DeadLetterRefused):
            self._hold_for(batch[0], self._dead_letters, error)
        else:
            self._failed_alone(batch[0], cause, seconds, doubtful=is_dependency(cause))

    def _must_wait(self, error: Exception) -> bool:
        """Whether the dependency that this error is about is away."""
        if not isinstance(error, HandlerFailed) and not settings.SERVICE_DATABASE:
            # The transaction's own word on the broker. Events are in it that cannot be to blame.
            self._wait_for(self._dependency, error)
            return True
        return self._is_away(error.error if isinstance(error, HandlerFailed) else error)

    def _is_away(self, error: BaseException | None = None) -> bool:
        """Ask the dependency, for this error if there was one."""
        try:
            self._transaction().probe()
        except Exception as answer:  # noqa: BLE001  whatever is in the way of the answer
            self._wait_for(self._dependency, error or answer)
            self._dependency.away = True
            return True
        return False

    def _wait_for(self, dependency: Dependency, error: BaseException) -> None:
        metrics.EVENTS_DEPENDENCY_WAITS.labels(dependency.part).inc()
        dependency.failed(error)

    def _timed_out(self, batch: list[Record], error: BaseException, seconds: float) -> None:
        """A handler or a statement took too long: a whole batch costs that once, from then on they are tried carefully."""
        if len(batch) > 1:
            if is_statement_timeout(error):
                self._wait_for(self._dependency, error)
            if self._pace.careful:
                self._backlog.split(batch, 1)
            else:
                self._backlog.put_back(batch)
            self._backlog.stood_still(seconds, time.monotonic())
            self._pace.timed_out()
            return
        record = batch[0]
        full = self._full_limit(record.topic)
        if isinstance(error, HandlerTimeout) and self._limit < full:
            self._pace.missed()
            self._set_aside(record, seconds, full)
        else:
            self._pace.timed_out()
            self._failed_alone(record, error, seconds, doubtful=is_statement_timeout(error))

    def _set_aside(self, record: Record, seconds: float, full: float) -> None:
        """It may hang, or only be slow: it is tried with its full limit when the others have had their turn."""
        log.info("event is slow, set aside", seconds=round(seconds, 3), **record.log_fields())
        counts = not self._is_poison(record)
        now = record.failed_at = time.monotonic()
        self._backlog.took(record, seconds, now)
        record.cost = full
        if not (counts and self._stops(record, HandlerTimeout(f"longer than {seconds:.1f} s"))):
            self._backlog.fail(record, now)

    def _failed_alone(self, record: Record, error: BaseException, seconds: float, *, doubtful: bool) -> None:
        """One event by itself. `doubtful` where others, too, may have met this: whether they get through is what tells."""
        now = time.monotonic()
        others_got_through = 0 < record.failed_at < self._through_at
        untried, poison = record.failed_at == 0, self._is_poison(record)
        record.failed_at = now
        self._backlog.took(record, seconds, now)
        if self.stopping.is_stopped(record.topic):
            self._probe_failed(record, seconds, now, untried=untried)
        elif not poison and self._stops(record, error):
            pass
        elif doubtful and not others_got_through:
            self._hold(record, error)
        else:
            self._retry_or_dead_letter(record, error)

    def _hold(self, record: Record, error: BaseException) -> None:
        """Try a record again soon, and what is ready before it: it costs the record nothing, and the others no time."""
        record.held += 1
        if record.held == 1:
            log.warning("event failed, tried again until others succeed", **_said(record, error))
        if is_statement_timeout(error):
            self._wait_for(self._dependency, error)  # it may be slow for everybody
        delay = max(RECONNECT.delay(record.held) or 0.0, record.cost)
        at = max(time.monotonic() + delay, self._dependency.next_try)
        self._backlog.fail(record, at + BEHIND_SECONDS)

    def _hold_for(self, record: Record, dependency: Dependency, error: BaseException) -> None:
        """Try a record again a little after the dependency may be."""
        dependency.why = (
            f"a dead letter cannot be written to {error}"[:300] if isinstance(error, DeadLetterRefused) else ""
        )
        self._wait_for(dependency, error)
        record.failed_at = time.monotonic()
        self._backlog.fail(record, dependency.next_try + BEHIND_SECONDS)

    def _retry_or_dead_letter(self, record: Record, error: BaseException) -> None:
        record.attempts += 1
        record.held = 0
        failed = FailedRecord(record, error, record.attempts)
        metrics.EVENTS_FAILED.labels(record.topic, failed.reason).inc()
        policy = self._handlers[record.topic].retry or self._policy
        delay = policy.delay(record.attempts)
        if delay is None or (isinstance(error, HandlerTimeout) and record.attempts >= TIMEOUT_ATTEMPTS):
            self._write_dead_letter(failed)
            return
        said = _said(record, error) | {"attempt": record.attempts, "retry_in": round(delay, 3)}
        log.warning("event failed, will try again", **said)
        metrics.EVENTS_RETRIED.labels(record.topic).inc()
        self._backlog.fail(record, time.monotonic() + max(delay, record.cost))

    def dead_letter(self, record: Record, error: Exception, *, attempts: int) -> None:
        """Dead-failed an event that is not to be tried any more."""
        record.attempts += 1  # taken back where the dead letter cannot be written
        self._write_dead_letter(FailedRecord(record, error, attempts))

    def _write_dead_letter(self, failed: FailedRecord) -> None:
        record = failed.record
        try:
            self._transaction().dead_letter(failed, self._backlog.offsets(assuming=[record]))
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001  wherever it cannot be written: it waits, it is never dropped
            self._transaction().reset(error)
            record.attempts -= 1
            self._hold_for(record, self._dependency if is_dependency(error) else self._dead_letters, error)
        else:
            self._dead_letters.answered()
            self._backlog.finish([record])
            log_dead_letter(failed)

    # --- a stopped topic ---

    def _stops(self, record: Record, error: BaseException) -> bool:
        """Whether this failure stops the topic of its record, which then waits like all others of it."""
        if not self.stopping.failed(record):
            return False
        self._backlog.fail(record, time.monotonic())
        self._stop(record.topic, error)
        return True

    def _stop(self, topic: str, error: BaseException) -> None:
        self.stopping.stop(topic, time.monotonic())
        self._backlog.stop(topic)
        self._say_what_is_stopped()
        log.error(
            "topic stopped: key after key fails and none succeeds; nothing is dead-lettered."
            " Repair the handler, or what it needs: it resumes by itself when an event succeeds",
            topic=topic,
            keys=settings.CONSUMER_STOP_AFTER_KEYS,
            exc_info=error,
        )

    def _withhold(self, batch: list[Record], error: Withheld, seconds: float) -> None:
        """So much cannot be read that it is not dead-lettered."""
        if not self.stopping.is_stopped(error.topic):
            self._backlog.put_back(batch)
            self._stop(error.topic, error.error)
            return
        [record] = batch  # a probe
        untried = record.failed_at == 0
        now = record.failed_at = time.monotonic()
        self._probe_failed(record, seconds, now, untried=untried)

    def _probe_failed(self, record: Record, seconds: float, now: float, *, untried: bool) -> None:
        """Something of a stopped topic has failed: it waits on, and no attempt is counted."""
        self._backlog.fail(record, now)
        more = self._backlog.has_untried(record.topic)
        self.stopping.probed(record.topic, seconds, now, untried=untried, more=more)

    def forget(self, topics: set[str]) -> None:
        """Nothing of these topics is this consumer's any more."""
        for topic in topics:
            if self.stopping.forget(topic) is not None:
                self._backlog.resume(topic)
        self._say_what_is_stopped()

    def _say_what_is_stopped(self) -> None:
        names = ", ".join(self.stopping.topics)
        self._say("handlers", names and f"stopped, as key after key fails: {names}")


def log_dead_letter(failed: FailedRecord) -> None:
    """Say that an event was dead-lettered, and count it."""
    record = failed.record
    metrics.EVENTS_DEAD_LETTERED.labels(record.topic, failed.reason).inc()
    log.error("event dead-lettered", reason=failed.reason, attempts=failed.attempts, **_said(record, failed.error))


def _said(record: Record, error: BaseException) -> dict[str, Any]:
    return {"request_id": record.header("requestId"), "exc_info": error, **record.log_fields()}
