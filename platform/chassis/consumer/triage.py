"""What happens after a failure: wait, split the batch, set the event aside, retry it, dead-letter it, or stop its topic.

Whether the event (poison) or a dependency caused an error is decided in `chassis/runtime/failures.py`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from django.conf import settings

from chassis.consumer import process_spans
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
"""How much later than the others a record is tried whose failure may have any cause: whether they succeed shows the cause."""

TIMEOUT_ATTEMPTS = 3
"""Maximum number of attempts, with the full time limit, of an event whose handler does not return. Each delays all others by
that limit, and a handler that hung three times will hang again."""


class Triage:
    """Judges every failure of a consumer, and decides what is tried next.

    The type of an exception proves nothing, since a handler may raise any. The consumer therefore waits for the database or
    the broker only if a probe of it fails. Otherwise the failing event is identified, and whether other events succeed shows
    whether it is the cause.
    """

    def __init__(
        self,
        backlog: Backlog,
        handlers: Handlers,
        transaction: Callable[[], Transaction],
        dependency: Dependency,
        dead_letters: Dependency,
        report: Callable[[str, str], None] = lambda part, reason: None,
    ) -> None:
        self._backlog = backlog
        self._handlers = handlers
        self._transaction = transaction
        self._dependency = dependency
        self._dead_letters = dead_letters
        self._report = report
        self._policy = service_policy()
        self._pace = Pace()
        self.stopping = Stopping(settings.CONSUMER_STOP_AFTER_KEYS)
        self._limit = 0.0
        self._probed = False
        self._last_success_at = 0.0
        self._succeeded_at: dict[str, float] = {}

    # --- what is tried next ---

    def may_work(self, now: float) -> bool:
        """Whether the dependency is up, as far as is known. One that was down is probed first, not tried with events."""
        if not self._dependency.may_try(now):
            return False
        if not self._dependency.confirmed_down:
            return True
        if self._is_down():
            return False
        self._dependency.answered()
        return True

    def take(self, now: float) -> list[Record]:
        """The next events to try together: occasionally a probe of a stopped topic, otherwise those of the backlog."""
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
        """When there is something to take apart from fresh records: 0.0 is now, None is never."""
        times = [at for at in (self._backlog.next_due(), self.stopping.next_probe()) if at is not None]
        return min(times, default=None)

    def terms(self, batch: Sequence[Record]) -> Terms:
        """How this batch is tried. A record that was set aside, or that probes a stopped topic, has its handler's full limit."""
        alone = len(batch) == 1 and (batch[0].cost >= COSTLY_SECONDS or self.stopping.is_stopped(batch[0].topic))
        full = max(self._full_limit(record.topic) for record in batch)
        self._limit = full if alone else self._pace.limit(len(batch), full)
        return Terms(self._limit, self._check_unreadable)

    def _full_limit(self, topic: str) -> float:
        return self._handlers[topic].timeout or float(settings.HANDLER_TIMEOUT_SECONDS)

    def _check_unreadable(self, readable: Readable, dead: Sequence[FailedRecord]) -> None:
        """Treat a topic of which no record can be parsed like one whose handler always fails. Raises Withheld."""
        topics_read = {record.topic for record, _ in readable}
        for topic in {failed.record.topic for failed in dead} - topics_read:
            records = [one.record for one in dead if one.record.topic == topic and not self._is_poison(one.record)]
            if not records:
                continue
            if self.stopping.is_stopped(topic) or self.stopping.enough(self.stopping.failing(topic, records)):
                raise Withheld(topic, next(failed.error for failed in dead if failed.record.topic == topic))

    def _is_poison(self, record: Record) -> bool:
        """Whether other records of its topic succeeded since this one failed: then the handler and the event model work."""
        return 0 < record.failed_at < self._succeeded_at.get(record.topic, 0.0)

    # --- success ---

    def succeeded(self, batch: list[Record], result: BatchResult, seconds: float) -> None:
        """Note that this batch was committed."""
        now = self._last_success_at = time.monotonic()
        self._dependency.answered()
        if result.dead:
            self._dead_letters.answered()
        retried = len(batch) == 1 and batch[0].failed_at > 0
        if retried:
            self._backlog.attempt_took(batch[0], seconds, now)
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
            self._report_stopped_topics()
            log.info("topic resumes: an event succeeded", topic=topic, seconds=round(now - stopped.since, 1))

    # --- failure ---

    def failed(self, batch: list[Record], error: Exception, seconds: float) -> None:
        """Decide what to do after this batch was rolled back. Raises Fenced, unless a handler raised it."""
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
        """Whether the dependency that this error is about is down."""
        if not isinstance(error, HandlerFailed) and not settings.SERVICE_DATABASE:
            # The Kafka transaction itself failed, which no event of the batch can cause.
            self._wait_for(self._dependency, error)
            return True
        return self._is_down(error.error if isinstance(error, HandlerFailed) else error)

    def _is_down(self, error: BaseException | None = None) -> bool:
        """Probe the dependency; if it does not respond, wait for it because of `error`."""
        try:
            self._transaction().probe()
        except Exception as answer:  # noqa: BLE001  any error means that it did not respond
            self._wait_for(self._dependency, error or answer)
            self._dependency.confirmed_down = True
            return True
        return False

    def _wait_for(self, dependency: Dependency, error: BaseException) -> None:
        metrics.EVENTS_DEPENDENCY_WAITS.labels(dependency.part).inc()
        dependency.failed(error)

    def _timed_out(self, batch: list[Record], error: BaseException, seconds: float) -> None:
        """Handle the timeout of a handler or a statement. It delays a whole batch once; after that, small batches are tried."""
        if len(batch) > 1:
            if is_statement_timeout(error):
                self._wait_for(self._dependency, error)
            if self._pace.careful:
                self._backlog.split(batch, 1)
            else:
                self._backlog.put_back(batch)
            self._backlog.batch_took(seconds, time.monotonic())
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
        """Set aside an event that hangs, or is only slow: it is tried with its full limit after the others had their turn."""
        log.info("event is slow, set aside", seconds=round(seconds, 3), **record.log_fields())
        slow = HandlerTimeout(f"the handler ran longer than {seconds:.1f} s")
        counts = not self._is_poison(record)
        now = record.failed_at = time.monotonic()
        self._backlog.attempt_took(record, seconds, now)
        record.cost = full
        if not (counts and self._stops(record, slow)):
            process_spans.not_finished(record, "set aside", slow)
            self._backlog.fail(record, now)

    def _failed_alone(self, record: Record, error: BaseException, seconds: float, *, doubtful: bool) -> None:
        """Handle the failure of a single event. `doubtful`: the cause may affect others too; whether they succeed shows it."""
        now = time.monotonic()
        others_succeeded = 0 < record.failed_at < self._last_success_at
        untried, poison = record.failed_at == 0, self._is_poison(record)
        record.failed_at = now
        self._backlog.attempt_took(record, seconds, now)
        if self.stopping.is_stopped(record.topic):
            self._probe_failed(record, seconds, now, untried=untried)
        elif not poison and self._stops(record, error):
            pass
        elif doubtful and not others_succeeded:
            self._hold(record, error)
        else:
            self._retry_or_dead_letter(record, error)

    def _hold(self, record: Record, error: BaseException) -> None:
        """Retry a record soon, after those that are ready: no attempt is counted, and the others are not delayed."""
        record.held += 1
        if record.held == 1:
            log.warning("event failed, retrying until others succeed", **_error_fields(record, error))
            process_spans.not_finished(record, "hold", error)
        if is_statement_timeout(error):
            self._wait_for(self._dependency, error)  # it may be slow for all events
        delay = max(RECONNECT.delay(record.held) or 0.0, record.cost)
        at = max(time.monotonic() + delay, self._dependency.next_try)
        self._backlog.fail(record, at + BEHIND_SECONDS)

    def _hold_for(self, record: Record, dependency: Dependency, error: BaseException) -> None:
        """Retry a record shortly after the next attempt to reach the dependency."""
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
        fields = _error_fields(record, error) | {"attempt": record.attempts, "retry_in": round(delay, 3)}
        log.warning("event failed, will try again", **fields)
        metrics.EVENTS_RETRIED.labels(record.topic).inc()
        details = {
            "retry.attempt": record.attempts,
            "retry.reason": failed.reason,
            "retry.delay_seconds": round(delay, 3),
        }
        process_spans.not_finished(record, "retry", error, **details)
        self._backlog.fail(record, time.monotonic() + max(delay, record.cost))

    def dead_letter(self, record: Record, error: Exception, *, attempts: int) -> None:
        """Dead-letter an event that must not be tried again."""
        record.attempts += 1  # undone if the dead letter cannot be written
        self._write_dead_letter(FailedRecord(record, error, attempts))

    def _write_dead_letter(self, failed: FailedRecord) -> None:
        record = failed.record
        try:
            self._transaction().dead_letter(failed, self._backlog.offsets(assuming=[record]))
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001  if it cannot be written, the event waits; it is never dropped
            self._transaction().reset(error)
            record.attempts -= 1
            self._hold_for(record, self._dependency if is_dependency(error) else self._dead_letters, error)
        else:
            self._dead_letters.answered()
            self._backlog.finish([record])
            log_dead_letter(failed)

    # --- a stopped topic ---

    def _stops(self, record: Record, error: BaseException) -> bool:
        """Stop the topic of this record if this failure requires it. Returns whether it does; the record then waits too."""
        if not self.stopping.failed(record):
            return False
        process_spans.not_finished(record, "topic stopped", error)
        self._backlog.fail(record, time.monotonic())
        self._stop(record.topic, error)
        return True

    def _stop(self, topic: str, error: BaseException) -> None:
        self.stopping.stop(topic, time.monotonic())
        self._backlog.stop(topic)
        self._report_stopped_topics()
        log.error(
            "topic stopped: key after key fails and none succeeds; nothing is dead-lettered."
            " Repair the handler or what it depends on; the topic resumes when an event succeeds",
            topic=topic,
            keys=settings.CONSUMER_STOP_AFTER_KEYS,
            exc_info=error,
        )

    def _withhold(self, batch: list[Record], error: Withheld, seconds: float) -> None:
        """Handle records that are not dead-lettered, although unreadable, since no record of their topic can be parsed."""
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
        """Forget topics of which this consumer no longer owns a partition."""
        for topic in topics:
            if self.stopping.forget(topic) is not None:
                self._backlog.resume(topic)
        self._report_stopped_topics()

    def _report_stopped_topics(self) -> None:
        names = ", ".join(self.stopping.topics)
        self._report("handlers", names and f"stopped, as key after key fails: {names}")


def log_dead_letter(failed: FailedRecord) -> None:
    """Log that an event was dead-lettered, and count it."""
    record = failed.record
    metrics.EVENTS_DEAD_LETTERED.labels(record.topic, failed.reason).inc()
    process_spans.dead_lettered(failed)
    log.error(
        "event dead-lettered", reason=failed.reason, attempts=failed.attempts, **_error_fields(record, failed.error)
    )


def _error_fields(record: Record, error: BaseException) -> dict[str, Any]:
    return {"exc_info": error, **record.log_fields()}
