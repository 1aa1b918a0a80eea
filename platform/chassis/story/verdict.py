"""Where a story stands, why, and what to do about it, derived from the facts of all services and the lines of their logs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from pydantic import BaseModel

from chassis.story.facts import DEAD_LETTERS, Facts, Letter, OutboxRow, TopicRecord
from chassis.story.logs import LogLine

RUNBOOK = "docs/runbook.md"


class State(IntEnum):
    """The states of a story, or of one event in it; of several, the highest counts."""

    SETTLED = 0
    ENDED = 1
    UNKNOWN = 2
    ON_ITS_WAY = 3
    RETRIED = 4
    HELD = 5
    STUCK = 6

    @property
    def text(self) -> str:
        """The state in words."""
        return self.name.lower().replace("_", " ")


class Verdict(BaseModel):
    """A state with its reason, what to do, and the section of the runbook about it."""

    state: State
    reason: str
    remedy: str = ""
    runbook: str = ""

    def sentence(self) -> str:
        """The verdict as one sentence."""
        more = [self.remedy, f"see {RUNBOOK}#{self.runbook}" if self.runbook else ""]
        return "; ".join([f"{self.state.text}: {self.reason}", *filter(None, more)])


class Judge:
    """Judges a story. `now` is the time at which the facts were collected."""

    def __init__(self, known: list[Facts], lines: list[LogLine], now: datetime | None = None) -> None:
        self._known = known
        self._lines = lines
        self._now = now or datetime.now(UTC)
        self._consumers = {topic: facts for facts in known for topic in facts.consumes}
        self._records = sorted(_unique(known), key=lambda record: (record.topic, record.partition, record.offset))
        self._resolved = {record.resolves: record.resolution for record in self._records if record.resolves}
        self._handled = {(facts.service, row.topic, row.event_id) for facts in known for row in facts.inbox}

    def verdicts(self) -> list[Verdict]:
        """All verdicts that are not `settled`, the most important first; one that is if there are no others."""
        found = [*self._of_outboxes(), *self._of_topics()]
        if not any(verdict.state > State.UNKNOWN for verdict in found):
            found += self._of_state()
        found = [verdict for verdict in found if verdict.state != State.SETTLED]
        return sorted(found, key=lambda verdict: -verdict.state) or [self._settled()]

    def _settled(self) -> Verdict:
        final = [f"{row.what} {row.id} is {row.state}" for facts in self._known for row in facts.rows if row.changed_at]
        events = any(facts.outbox or facts.records for facts in self._known)
        fallback = "every event was handled" if events else "it published no events"
        return Verdict(state=State.SETTLED, reason=", ".join(final) or fallback)

    # --- outboxes ---

    def _of_outboxes(self) -> Iterator[Verdict]:
        for facts in self._known:
            for row in facts.outbox:
                if row.sent_at is None:
                    yield self._of_unsent(facts, row)

    def _of_unsent(self, facts: Facts, row: OutboxRow) -> Verdict:
        command = f"--settings=settings.{facts.service}"
        where = f"outbox row {row.position} of {facts.service}"
        if row.discarded_at:
            reason = f"{row.topic} was discarded by {row.discarded_by} ({where}), and is never sent"
            return Verdict(state=State.ENDED, reason=reason, runbook="parked-rows")
        if row.parked_at:
            return Verdict(
                state=State.STUCK,
                reason=f"Kafka refuses {row.topic} ({where}): {row.parked_reason}",
                remedy=f"repair the cause, then manage.py parked retry {row.position} {command}",
                runbook="parked-rows",
            )
        if row.behind is not None:
            return Verdict(
                state=State.HELD,
                reason=f"{row.topic} ({where}) waits behind the parked row {row.behind} of the same key",
                remedy=f"decide about that row: manage.py parked list {row.behind} {command}",
                runbook="parked-rows",
            )
        return self._of_waiting(facts, row, where)

    def _of_waiting(self, facts: Facts, row: OutboxRow, where: str) -> Verdict:
        seconds = (self._now - row.created_at).total_seconds() if row.created_at else 0.0
        remedy = ""
        if row.topic in facts.missing_topics:
            why = "; topic missing"
            remedy = "create it with manage.py topics --apply for the service that publishes it"
        elif any("topics cannot be read" in problem for problem in facts.problems):
            why, remedy = "; Kafka does not respond", "it is sent when Kafka is back"
        else:
            why = ""
            remedy = f"check that the relay of {facts.service} runs" if seconds > 5 else "wait"
        what = f"the dead letter of {row.letter.topic}" if row.letter else row.topic
        return Verdict(
            state=State.STUCK if row.topic in facts.missing_topics and seconds > 5 else State.ON_ITS_WAY,
            reason=f"{what} is on its way: the relay has not sent it ({where}, waiting {seconds:.0f} s{why})",
            remedy=remedy,
            runbook="the-relay-does-not-send",
        )

    # --- topics ---

    def _of_topics(self) -> Iterator[Verdict]:
        for record in self._records:
            if record.letter or record.resolves or record.topic.endswith(DEAD_LETTERS):
                continue
            if (consumer := self._consumers.get(record.topic)) is not None:
                yield self._of_record(record, consumer)

    def _of_record(self, record: TopicRecord, consumer: Facts) -> Verdict:
        if self._is_handled(record, consumer):
            return Verdict(state=State.SETTLED, reason=f"{consumer.service} handled {record.topic}")
        if (letter := self._letter(record, consumer)) is not None:
            return self._of_letter(record, letter, consumer)
        if record.offset < self._committed(record, consumer):
            return self._of_passed(record, consumer)
        return self._of_unread(record, consumer)

    def _is_handled(self, record: TopicRecord, consumer: Facts) -> bool:
        if record.redriven_for and record.redriven_for != consumer.service:
            return True
        if (consumer.service, record.topic, record.event_id) in self._handled:
            return True
        return not consumer.has_database and any(
            other.source == consumer.service and other.topic in consumer.publishes
            and (other.key, other.request_id) == (record.key, record.request_id)
            for other in self._records
            if not other.letter
        )  # fmt: skip

    def _committed(self, record: TopicRecord, consumer: Facts) -> int:
        return consumer.committed.get(record.topic, {}).get(record.partition, -1)

    def _letter(self, record: TopicRecord, consumer: Facts) -> Letter | None:
        letters = [one.letter for one in self._records if one.letter] + [
            row.letter for row in consumer.outbox if row.letter
        ]
        place = (consumer.service, record.topic, str(record.partition), str(record.offset))
        found = [one for one in letters if (one.group, one.topic, one.partition, one.offset) == place]
        return found[0] if found else None

    def _of_letter(self, record: TopicRecord, letter: Letter, consumer: Facts) -> Verdict:
        if (resolution := self._resolved.get(letter.id)) is not None:
            if resolution.startswith("redriven"):  # the redriven record has a verdict of its own
                return Verdict(state=State.SETTLED, reason=f"{record.topic} was {resolution}")
            return Verdict(
                state=State.ENDED,
                reason=f"the dead letter of {record.topic} was {resolution}: {consumer.service} never processed it",
                runbook="dead-letters",
            )
        why = f"attempt {letter.attempts}, {letter.reason}: {letter.error}"
        return Verdict(
            state=State.STUCK,
            reason=f"{consumer.service} dead-lettered {record.topic} ({why})",
            remedy="repair the cause, then redrive it with"
            f" manage.py deadletters redrive --id {letter.id} --settings=settings.{consumer.service}",
            runbook="dead-letters",
        )

    def _of_passed(self, record: TopicRecord, consumer: Facts) -> Verdict:
        if not consumer.has_database:
            return Verdict(state=State.SETTLED, reason=f"{consumer.service} passed {record.place}")
        return Verdict(
            state=State.STUCK,
            reason=f"{consumer.service} passed {record.place}, but its inbox does not show it",
            remedy=f"if it is younger than INBOX_RETENTION_HOURS, run manage.py reconcile --settings=settings.{consumer.service}",
            runbook="reconcile",
        )

    def _of_unread(self, record: TopicRecord, consumer: Facts) -> Verdict:
        service = consumer.service
        if any("topics cannot be read" in problem for problem in consumer.problems):
            return Verdict(state=State.UNKNOWN, reason=f"how far {service} is cannot be read from Kafka now")
        if consumer.members == 0:
            return Verdict(
                state=State.STUCK,
                reason=f"{record.topic} is at {record.place}, and no consumer of {service} is running",
                remedy=f"start manage.py consume --settings=settings.{service}",
                runbook="lag-grows",
            )
        if (stopped := self._stopped(record, service)) is not None:
            reason = f"{service} has stopped {record.topic}, since key after key fails ({stopped.at:%H:%M:%S})"
            return Verdict(state=State.STUCK, reason=reason, remedy="repair its handler", runbook="a-topic-is-stopped")
        if (blocker := self._blocker(record, consumer)) is not None:
            retries = self._retries(blocker, service) or f"the log of {service} says how often it was retried"
            return Verdict(
                state=State.HELD,
                reason=f"{record.topic} is held behind event {blocker.event_id} of the same key ({blocker.place}), {retries}",
                remedy="it resumes when that event succeeds or is dead-lettered",
                runbook="a-poison-event",
            )
        if retries := self._retries(record, service):
            reason = f"{service} fails to handle {record.topic} ({record.place}), {retries}"
            return Verdict(state=State.RETRIED, reason=reason, runbook="a-poison-event")
        behind = record.offset - max(self._committed(record, consumer), 0)
        reason = f"{record.topic} is at {record.place}; {service} has not finished it ({behind} records before it)"
        remedy = "wait; if this lasts, look at the consumer's lag and log"
        return Verdict(state=State.ON_ITS_WAY, reason=reason, remedy=remedy, runbook="lag-grows")

    def _blocker(self, record: TopicRecord, consumer: Facts) -> TopicRecord | None:
        """The first unfinished record of the same key before this one."""
        for other in self._records:
            same = (other.topic, other.partition, other.key) == (record.topic, record.partition, record.key)
            if not same or other.offset >= record.offset or other.offset < self._committed(other, consumer):
                continue
            if not self._is_handled(other, consumer) and self._letter(other, consumer) is None:
                return other
        return None

    def _retries(self, record: TopicRecord, service: str) -> str:
        """How often an event was retried, and when it will be tried again, according to the log."""
        failed = [
            line
            for line in self._lines
            if line.service == service
            and line.event.startswith("event failed")
            and line.get("event_id") == record.event_id
        ]
        if not failed:
            return ""
        last = failed[-1]
        attempts = last.get("attempt") or str(len(failed))
        times = "once" if attempts == "1" else f"{attempts} times"
        error = _error(last)
        try:
            due = last.at + timedelta(seconds=float(last.get("retry_in")))
        except ValueError:
            return f"failed {times}{error}"
        left = max(0.0, (due - self._now).total_seconds())
        return f"failed {times}{error}, next try in {left:.0f} s"

    def _stopped(self, record: TopicRecord, service: str) -> LogLine | None:
        about = [
            line
            for line in self._lines
            if line.service == service and line.event.startswith("topic ") and line.get("topic").endswith(record.topic)
        ]
        return about[-1] if about and about[-1].event.startswith("topic stopped") else None

    # --- state ---

    def _of_state(self) -> Iterator[Verdict]:
        """Rows that wait for an event, if no event is in transit; and consumers that could not be asked."""
        unfinished = [(facts, row) for facts in self._known for row in facts.rows if not row.is_final]
        published = {record.topic for record in self._records if not record.letter and not record.resolves}
        unseen = sorted(
            topic for topic in published if topic not in self._consumers and not topic.endswith(DEAD_LETTERS)
        )
        for facts, row in unfinished:
            if unseen:
                reason = f"{row.what} {row.id} is {row.state}; who consumes {', '.join(unseen)} was not asked"
                yield Verdict(
                    state=State.ON_ITS_WAY, reason=reason, remedy="ask all services: manage.py story without --settings"
                )
                continue
            yield Verdict(
                state=State.STUCK,
                reason=f"{row.what} {row.id} is {row.state}, and no event about it is in transit",
                remedy=f"run manage.py reconcile --settings=settings.{facts.service}",
                runbook="reconcile",
            )
        if unseen and not unfinished:
            yield Verdict(
                state=State.UNKNOWN,
                reason=f"{', '.join(unseen)} was sent; its consumers were not asked",
                remedy="ask all services: manage.py story without --settings",
            )


def _unique(known: list[Facts]) -> list[TopicRecord]:
    found = {(one.topic, one.partition, one.offset): one for facts in known for one in facts.records}
    return list(found.values())


def _error(line: LogLine) -> str:
    error = line.fields.get("exception")
    if isinstance(error, list) and error and isinstance(error[0], dict):
        return f" ({error[0].get('type')}: {' '.join(str(error[0].get('message')).split())[:200]})"
    return ""
