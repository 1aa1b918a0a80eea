"""Where a story stands: one case per state, from facts as services give them."""

from datetime import UTC, datetime, timedelta

import pytest

from chassis.story.facts import Facts, InboxRow, Letter, OutboxRow, Question, Row, TopicRecord
from chassis.story.logs import LogLine
from chassis.story.verdict import Judge, State

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
USER, ORDER = "u-1", "o-1"


def outbox(topic="user.created", **fields) -> OutboxRow:
    values = {"position": 7, "event_id": f"e-{topic}", "topic": topic, "key": USER, "request_id": "r", "trace_id": "t"}
    return OutboxRow(**{**values, "created_at": NOW - timedelta(seconds=40), **fields})


def record(topic="user.created", offset=5, **fields) -> TopicRecord:
    values = {"topic": topic, "partition": 1, "offset": offset, "at": NOW, "key": USER, "event_id": f"e-{topic}"}
    return TopicRecord(**{**values, "request_id": "r", "trace_id": "t", "source": "users", **fields})


def users(**fields) -> Facts:
    return Facts(service="users", has_database=True, publishes=("user.created",), **fields)


def orders(committed=0, **fields) -> Facts:
    values = {"committed": {"user.created": {1: committed}}, "members": 1, **fields}
    return Facts(service="orders", has_database=True, consumes=("user.created",), **values)


def handled(event_id="e-user.created") -> InboxRow:
    return InboxRow(event_id=event_id, topic="user.created", key=USER, request_id="r", at=NOW)


def letter(**fields) -> Letter:
    values = {"id": "l-1", "group": "orders", "reason": "handler", "error": "ValueError: no", "attempts": "3"}
    return Letter(**{**values, "topic": "user.created", "partition": "1", "offset": "5", **fields})


def failure(event_id: str, attempt: int, ago: float, retry_in: float) -> LogLine:
    fields = {"event_id": event_id, "attempt": attempt, "retry_in": retry_in}
    at = NOW - timedelta(seconds=ago)
    return LogLine(
        process="orders-consume", at=at, level="warning", event="event failed, will try again", fields=fields
    )


def verdict(*facts: Facts, lines=()):
    return Judge(list(facts), list(lines), NOW).verdicts()[0]


DLQ = "user.created.orders.dlq"
SENT = {"sent_at": NOW}
CASES = {
    "unsent": ([users(outbox=[outbox()])], State.ON_ITS_WAY, "outbox row 7 of users, waiting 40 s)"),
    "topic missing": (
        [users(outbox=[outbox()], missing_topics=["user.created"])], State.STUCK, "waiting 40 s; topic missing)",
    ),
    "kafka down": (
        [users(outbox=[outbox()], problems=["the topics cannot be read: x"])], State.ON_ITS_WAY, "Kafka does not respond",
    ),
    "parked": ([users(outbox=[outbox(parked_at=NOW, parked_reason="too large")])], State.STUCK, "too large"),
    "behind a parked row": ([users(outbox=[outbox(behind=3)])], State.HELD, "behind the parked row 3"),
    "discarded": (
        [users(outbox=[outbox(parked_at=NOW, discarded_at=NOW, discarded_by="ada")])], State.ENDED, "discarded by ada",
    ),
    "handled": ([orders(records=[record()], inbox=[handled()])], State.SETTLED, "every event was handled"),
    "not read": ([orders(records=[record()])], State.ON_ITS_WAY, "user.created/1 at offset 5; orders has not finished it"),
    "no consumer": ([orders(records=[record()], members=0)], State.STUCK, "no consumer of orders is running"),
    "passed": ([orders(6, records=[record()])], State.STUCK, "its inbox does not show it"),
    "dead letter": (
        [orders(6, records=[record(), record(DLQ, 0, letter=letter())])], State.STUCK, "attempt 3, handler: ValueError: no",
    ),
    "dead letter in the outbox": (
        [orders(6, records=[record()], outbox=[outbox(DLQ, sent_at=NOW, letter=letter())])], State.STUCK, "ValueError",
    ),
    "dead letter discarded": (
        [orders(6, records=[
            record(), record(DLQ, 0, letter=letter()), record(DLQ, 1, resolves="l-1", resolution="discarded by ada at x"),
        ])], State.ENDED, "discarded by ada",
    ),
    "dead letter redriven and handled": (
        [orders(9, inbox=[handled()], records=[
            record(), record(DLQ, 0, letter=letter()), record(DLQ, 1, resolves="l-1", resolution="redriven by ada at x"),
            record(offset=8, redriven_for="orders"),
        ])], State.SETTLED, "every event was handled",
    ),
    "held": (
        [orders(4, records=[record(offset=4, event_id="x"), record()])], State.HELD, "held behind event x of the same key",
    ),
    "not held by one that was handled": (
        [orders(4, records=[record(offset=4, event_id="x"), record()], inbox=[handled("x")])], State.ON_ITS_WAY, "1 records",
    ),
    "nothing in transit": (
        [orders(rows=[Row(what="order", id=ORDER, state="pending", at=NOW, is_final=False)])], State.STUCK, "no event about",
    ),
    "consumers not asked": ([users(outbox=[outbox(**SENT)], records=[record()])], State.UNKNOWN, "were not asked"),
    "broker silent for the consumer": (
        [users(records=[record()]), orders(problems=["the topics cannot be read: x"])], State.UNKNOWN, "cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_states(case):
    facts, state, reason = CASES[case]
    found = verdict(*facts)
    assert found.state == state
    assert reason in found.sentence()


def test_a_service_without_a_database_has_handled_what_it_answered():
    payments = Facts(
        service="payments", consumes=("order.created",), publishes=("payment.completed",), members=1,
        committed={"order.created": {1: 0}},
        records=[record("order.created", source="orders"), record("payment.completed", source="payments")],
    )  # fmt: skip
    assert verdict(payments, Facts(service="orders", consumes=())).state == State.UNKNOWN
    assert Judge([payments], [], NOW)._is_handled(payments.records[0], payments)


@pytest.mark.parametrize("behind", [True, False])
def test_retries_are_those_of_the_log(behind):
    records = [record(offset=4, event_id="x"), record()] if behind else [record(offset=4, event_id="x")]
    lines = [failure("x", 1, 9, 1), failure("x", 2, 4, 10), failure("another", 7, 1, 1)]
    found = verdict(orders(4, records=records), lines=lines)
    assert found.state == (State.HELD if behind else State.RETRIED)
    assert "failed 2 times, next try in 6 s" in found.reason


def test_a_stopped_topic():
    stopped = LogLine(
        process="orders-consume", at=NOW, level="error", event="topic stopped: …", fields={"topic": "user.created"}
    )
    resumed = stopped.model_copy(update={"event": "topic resumes: an event succeeded"})
    facts = orders(4, records=[record()])
    assert "has stopped user.created" in verdict(facts, lines=[stopped]).reason
    assert verdict(facts, lines=[stopped, resumed]).state == State.ON_ITS_WAY


def test_the_question_grows_along_the_request_and_not_beyond():
    question = Question.about(USER)
    known = [users(outbox=[outbox(**SENT)]), orders(outbox=[outbox("order.created", key=ORDER)])]
    wider = question.widened(known)
    assert wider.request_ids == {"r"}
    assert wider.widened(known).keys == {USER, ORDER}
    foreign = record(request_id="another", key=USER, event_id="e-2")
    assert question.widened([users(records=[foreign])]).request_ids == {"another"}
    beyond = record("order.created", request_id="another", key="o-2", event_id="e-3")
    assert wider.widened([users(records=[beyond])]).keys == {USER}
