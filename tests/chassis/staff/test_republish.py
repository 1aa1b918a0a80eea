"""Publishing an event again from its row in the outbox."""

import uuid

import pytest
from django.db.models.functions import Now
from structlog.testing import capture_logs

from chassis.messaging.models import OutboxEvent
from tests.chassis.staff.clients import NAME, operator, person
from tests.chassis.staff.test_tables import row

pytestmark = pytest.mark.django_db(databases=["users"])


def republish(client=None, **body):
    return (client or operator()).post("/staff/outbox/republish", body, content_type="application/json")


def is_waiting(one: OutboxEvent) -> bool:
    one.refresh_from_db()
    return one.sent_at is None and one.parked_at is None


def test_a_sent_row_waits_for_the_relay_again_and_who_did_it_is_logged():
    one, other = row(sent_at=Now()), row(sent_at=Now())
    with capture_logs() as logs:
        answer = republish(event_id=str(one.event_id), why="a test")
    assert (answer.status_code, answer.json()) == (200, {"done": True})
    assert is_waiting(one)
    assert not is_waiting(other)
    [line] = [line for line in logs if line["event"] == "event published again"]
    assert (line["by"], line["why"], line["event_id"]) == (NAME, "a test", str(one.event_id))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "unsent"),
        ({"parked_at": Now(), "parked_reason": "x"}, "parked"),
        ({"sent_at": Now(), "topic": "user.created.orders.dlq"}, "redriven instead"),
    ],
)
def test_other_rows_stay_as_they_are(more, reason):
    one = row(**more)
    before = OutboxEvent.objects.filter(pk=one.pk).values().get()
    answer = republish(event_id=str(one.event_id))
    assert answer.status_code == 409
    assert reason in answer.json()["detail"]
    assert OutboxEvent.objects.filter(pk=one.pk).values().get() == before


def test_an_unknown_event():
    answer = republish(event_id=str(uuid.uuid4()))
    assert answer.status_code == 409
    assert "not in the outbox any more" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body", [{}, {"event_id": "x"}, {"event_id": None}, {"event_id": str(uuid.uuid4()), "more": 1}]
)
def test_invalid_bodies(body):
    assert republish(**body).status_code == 400


@pytest.mark.parametrize("body", ["[]", "7", "[{}]", "null", "{", '"x"'])
def test_bodies_that_are_no_objects(body):
    answer = operator().post("/staff/outbox/republish", body, content_type="application/json")
    assert answer.status_code == 400


def test_permission():
    one = row(sent_at=Now())
    assert republish(person("view_outboxevent"), event_id=str(one.event_id)).status_code == 403
    assert not is_waiting(one)
