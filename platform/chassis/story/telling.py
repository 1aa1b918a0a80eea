"""The story as steps in the order of time, from the facts of all services and the lines of their logs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from chassis.story.facts import DEAD_LETTERS, Facts, TopicRecord
from chassis.story.logs import LogLine

REQUEST, HANDLED, STATE, WRITTEN, SENT, OTHER = range(6)
"""The order of steps with the same time."""

TRANSACTION = timedelta(seconds=5)
"""The longest time between two steps of one transaction."""


class Step(BaseModel):
    """A step: when, in which service, what, and where it can be looked up."""

    at: datetime
    service: str
    what: str
    where: str = ""
    rank: int = OTHER


def steps(known: list[Facts], lines: list[LogLine]) -> list[Step]:
    """All steps of the story, in order."""
    found: list[Step] = []
    records = {record.event_id: record for facts in known for record in reversed(facts.records) if not record.letter}
    written = {row.event_id for facts in known for row in facts.outbox}
    seen: set[tuple[str, int, int]] = set()
    for facts in known:
        found += _of_state(facts)
        found += _of_outbox(facts, records)
        found += _of_inbox(facts)
        for record in facts.records:
            place = (record.topic, record.partition, record.offset)
            if place not in seen:
                seen.add(place)
                found += _of_record(record, known, written)
    found += [step for line in lines if (step := _of_line(line))]
    return sorted(found, key=lambda step: (step.at, step.rank))


def _of_state(facts: Facts) -> Iterator[Step]:
    handled = {row.key: row.at for row in facts.inbox}
    for row in facts.rows:
        created = "pending" if row.changed_at or not row.is_final else row.state
        where = f"{row.what} {row.id}"
        yield Step(at=row.at, service=facts.service, what=f"{row.what} {created}", where=where, rank=STATE)
        if row.changed_at:
            at = _after(row.changed_at, handled.get(row.id))
            yield Step(at=at, service=facts.service, what=f"{row.what} {row.state}", where=where, rank=STATE)


def _of_outbox(facts: Facts, records: dict[str, TopicRecord]) -> Iterator[Step]:
    states = {row.id: row.at for row in facts.rows}
    for row in facts.outbox:
        where = f"outbox row {row.position}"
        created = _after(row.created_at or row.sent_at or datetime.now(UTC), states.get(row.key or ""))
        what = f"dead-lettered {row.letter.topic}" if row.letter else f"wrote {row.topic} to the outbox"
        yield Step(at=created, service=facts.service, what=what, where=where, rank=WRITTEN)
        if row.sent_at:
            record = records.get(row.event_id)
            place = f"{record.place}, {where}" if record else where
            # A row is marked after Kafka has acknowledged it, when a consumer may already have handled the event.
            at = max(created, record.at if record and record.at else row.sent_at)
            yield Step(at=at, service=facts.service, what=f"sent {row.topic}", where=place, rank=SENT)
        if row.parked_at:
            what = f"parked {row.topic}: {row.parked_reason}"
            yield Step(at=row.parked_at, service=facts.service, what=what, where=where)
        if row.discarded_at:
            what = f"{row.topic} discarded by {row.discarded_by}"
            yield Step(at=row.discarded_at, service=facts.service, what=what, where=where)


def _after(at: datetime, cause: datetime | None) -> datetime:
    """The time of a step, not before its cause in the same transaction: some columns have the time of its start."""
    return cause if cause is not None and timedelta() < cause - at < TRANSACTION else at


def _of_inbox(facts: Facts) -> Iterator[Step]:
    for row in facts.inbox:
        if row.at:
            where = f"inbox, event {row.event_id}"
            yield Step(at=row.at, service=facts.service, what=f"handled {row.topic}", where=where, rank=HANDLED)


def _of_record(record: TopicRecord, known: list[Facts], written: set[str]) -> Iterator[Step]:
    """Records that no outbox shows: those of services without a database, dead letters, resolutions and redrives."""
    if record.at is None:
        return
    service = record.source or "unknown"
    if record.resolves:
        consumer = record.topic.removesuffix(DEAD_LETTERS).rpartition(".")[2]
        yield Step(at=record.at, service=consumer, what=f"dead letter {record.resolution}", where=record.place)
    elif record.letter:
        if record.letter.id not in written:
            what = f"dead-lettered {record.letter.topic}: {record.letter.error}"
            yield Step(at=record.at, service=record.letter.group, what=what, where=record.place)
    elif record.redriven_for:
        what = f"{record.topic} redriven for {record.redriven_for}"
        yield Step(at=record.at, service=record.redriven_for, what=what, where=record.place)
    elif record.event_id not in written:
        if (cause := _cause(record, known)) is not None:
            yield Step(at=record.at, service=service, what=f"handled {cause.topic}", where=cause.place, rank=HANDLED)
        yield Step(at=record.at, service=service, what=f"published {record.topic}", where=record.place, rank=SENT)


def _cause(record: TopicRecord, known: list[Facts]) -> TopicRecord | None:
    """The event that a service without a database handled when it published this record."""
    for facts in known:
        if facts.service != record.source or facts.has_database:
            continue
        for other in facts.records:
            if other.topic in facts.consumes and (other.key, other.request_id) == (record.key, record.request_id):
                return other
    return None


HANDLED_EVENTS = ("event handled", "published")
"""Lines about what the facts show already."""


def _of_line(line: LogLine) -> Step | None:
    if line.event in HANDLED_EVENTS:
        return None
    if line.event == "request":
        what = f"{line.get('method')} {line.get('route') or line.get('upstream')} → {line.get('status')}"
        # It is logged when the response has been sent; the story begins when the request arrives.
        began = line.at - timedelta(milliseconds=_number(line.get("duration_ms")))
        return Step(at=began, service=line.process, what=what, where=f"log of {line.process}", rank=REQUEST)
    fields = [
        f"{name}={line.get(name)}" for name in ("topic", "attempt", "attempts", "retry_in", "reason") if line.get(name)
    ]
    error = line.fields.get("exception")
    if isinstance(error, list) and error and isinstance(error[0], dict):
        fields.append(f"{error[0].get('type')}: {' '.join(str(error[0].get('message')).split())}")
    return Step(
        at=line.at, service=line.process, what=" ".join([line.event, *fields])[:300], where=f"log of {line.process}"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
