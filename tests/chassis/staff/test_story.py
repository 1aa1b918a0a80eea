"""The facts about a story are those with which `manage.py story --answer` answers."""

import json

import pytest
from django.core.management import call_command

from chassis.messaging.models import InboxEvent, OutboxEvent
from chassis.story.facts import Facts, Question
from tests.chassis.staff.clients import operator

pytestmark = pytest.mark.django_db(databases=["users", "orders"])

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
EVENT = "5f0c7f4e-32a1-4a3c-9f4e-0d9a3f0f7b11"


@pytest.fixture(autouse=True)
def known() -> None:
    headers = [["requestId", "r1"], ["traceId", TRACE], ["traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"]]
    OutboxEvent.objects.using("users").create(
        event_id=EVENT, topic="user.created", key="u1", payload=b'{"name": "Ada"}', headers=headers, request_id="r1"
    )
    InboxEvent.objects.using("users").create(event_id="e9", source="/s", topic="t", key="u1", request_id="r1")


def ask(query: str) -> Facts:
    answer = operator().get(f"/staff/story?{query}")
    assert answer.status_code == 200, answer.content
    return Facts.model_validate(answer.json())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("keys=u1", (1, 1)), ("request_ids=r1", (1, 1)), (f"trace_ids={TRACE}", (1, 0)), (f"event_ids={EVENT}", (1, 0)),
        ("ids=u1", (1, 1)), ("ids=r1", (1, 1)), (f"ids={TRACE}", (1, 0)), ("keys=other,u1", (1, 1)), ("keys=x&keys=u1", (1, 1)),
        ("keys=r1", (0, 0)), ("request_ids=u1", (0, 0)), ("event_ids=e9", (0, 1)), ("keys=u2", (0, 0)),
    ],
)  # fmt: skip
def test_by_each_kind_of_id(query, found):
    facts = ask(query)
    assert (len(facts.outbox), len(facts.inbox)) == found
    assert facts.service == "users"


def test_it_is_what_the_command_answers(monkeypatch, capsys, tmp_path):
    question = Question(ids=frozenset(), keys=frozenset(["u1"]))
    with (tmp_path / "question").open("w+") as asked:
        asked.write(question.model_dump_json() + "\n")
        asked.seek(0)
        monkeypatch.setattr("sys.stdin", asked)
        call_command("story", answer=True)
    assert Facts.model_validate_json(capsys.readouterr().out) == ask("keys=u1")


def test_no_personal_data():
    assert "Ada" not in json.dumps(ask("keys=u1").model_dump(mode="json"))


def test_with_the_topics(settings):
    facts = ask("keys=u1&topics=1")
    assert facts.problems == ()
    assert ask("keys=u1").missing_topics == ()
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    assert any("the topics cannot be read" in problem for problem in ask("keys=u1&topics=1").problems)


@pytest.mark.parametrize("query", ["", "keys=", "keys=,", "keys=a b", "keys=" + "x" * 129, "ids=" + ",".join(map(str, range(201))),
                                   "nothing=1", "keys=a&topics=2", "keys=a&since=yesterday", "keys=%00", "keys=%ff", "event_ids=é"])  # fmt: skip
def test_an_invalid_question_is_explained(query):
    answer = operator().get(f"/staff/story?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["errors"]


@pytest.mark.service("payments")
def test_a_service_without_a_database_answers_too():
    facts = ask("keys=u1")
    assert (facts.service, facts.has_database, facts.consumes) == ("payments", False, ("order.created",))
