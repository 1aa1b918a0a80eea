"""Reconciliation of users: a user without an event on the topic is found, and the event republished with the same id."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from chassis.messaging.models import OutboxEvent
from chassis.reconciliation.reconciliation import REPUBLISH, WAIT, Finding, Period
from tests.chassis.support.kafka_helpers import make_topic, send
from users import reconciliation, services
from users.events import UserCreated
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"])


@pytest.fixture(autouse=True)
def topic(monkeypatch) -> str:
    name = make_topic(f"user.created-{uuid.uuid4().hex[:8]}")
    monkeypatch.setattr(UserCreated, "topic", name)
    return name


@pytest.fixture
def user() -> User:
    return services.create_user(email="ada@example.org", name="Ada")


def find() -> list[Finding]:
    now = datetime.now(UTC)
    return list(reconciliation.find(Period(now - timedelta(hours=1), now + timedelta(minutes=1))))


def test_a_deleted_outbox_row_is_found_and_published_as_the_same_event(user):
    lost = OutboxEvent.objects.get()
    lost_payload, lost_id = bytes(lost.payload), lost.event_id
    OutboxEvent.objects.all().delete()

    [finding] = find()
    assert finding.what == f"user.created of user {user.id}"
    assert "neither in the outbox nor on its topic" in finding.where
    assert finding.remedy == REPUBLISH
    assert finding.repair()

    row = OutboxEvent.objects.get()
    assert (row.event_id, bytes(row.payload), row.sent_at) == (lost_id, lost_payload, None)


def test_an_event_in_the_outbox_is_only_waited_for(user):
    [finding] = find()
    assert (finding.remedy, finding.repair) == (WAIT, None)


def test_a_published_user_is_not_reported(user, topic):
    row = OutboxEvent.objects.get()
    send(topic, (row.key.encode(), bytes(row.payload), [tuple(header) for header in row.headers]))
    assert find() == []


def test_deleted_users_are_not_reported(user):
    OutboxEvent.objects.all().delete()
    [finding] = find()
    services.delete_user(user_id=user.id)
    assert not finding.repair()
    assert find() == []
