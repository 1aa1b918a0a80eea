"""The answer of the running service, from its own database and its own topics."""

from confluent_kafka import KafkaException
from django.conf import settings
from django.db import DatabaseError

from chassis.events import registry
from chassis.runtime.failures import DependencyDown
from chassis.story import database, topics
from chassis.story.facts import Facts, InboxRow, OutboxRow, Question, Row


def answer(question: Question) -> Facts:
    """What this service knows. A database or a broker that does not respond is one of the problems, not an error."""
    problems: list[str] = []
    rows: tuple[Row, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    inbox: tuple[InboxRow, ...] = ()
    found: topics.Found | None = None
    if settings.SERVICE_DATABASE:
        try:
            rows, outbox, inbox = database.rows(question), database.outbox(question), database.inbox(question)
        except DatabaseError as error:
            problems.append(f"the database cannot be read: {_first_line(error)}")
    consumes = tuple(handler.event.topic for handler in registry.handlers().values())
    publishes = tuple(event.topic for event in registry.published())
    if question.topics and (consumes or publishes):
        try:
            found = topics.find(question, [row.topic for row in outbox])
        except (KafkaException, DependencyDown) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            problems.append(f"the topics cannot be read: {reason}")
    full = [name for name, part in (("outbox", outbox), ("inbox", inbox)) if len(part) == database.MOST]
    limits = (found.limits if found else ()) + tuple(
        f"only {database.MOST} rows of the {name} are shown" for name in full
    )
    return Facts(
        service=settings.SERVICE_NAME,
        has_database=bool(settings.SERVICE_DATABASE),
        consumes=consumes,
        publishes=publishes,
        rows=rows,
        outbox=outbox,
        inbox=inbox,
        records=found.records if found else (),
        committed=found.committed if found else {},
        members=found.members if found else None,
        missing_topics=found.missing if found else (),
        problems=tuple(problems),
        limits=limits,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
