"""The use cases of users, on the real database."""

import threading
import uuid

import orjson
import pytest
from django.db import IntegrityError, connections, transaction

from chassis.messaging.models import OutboxEvent
from users import services
from users.models import EmailTaken, User

pytestmark = pytest.mark.django_db(databases=["users"])


def test_a_new_user_and_its_event_are_committed_together():
    user = services.create_user(email="ada@example.org", name="Ada")

    event = OutboxEvent.objects.get()
    assert (event.topic, event.key) == ("user.created", str(user.id))
    assert orjson.loads(bytes(event.payload)) == {
        "userId": str(user.id),
        "email": "ada@example.org",
        "name": "Ada",
        "createdAt": user.created_at.isoformat().replace("+00:00", "Z"),
    }


def test_no_user_is_created_without_its_event(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("the outbox is full")

    monkeypatch.setattr(services, "publish", fail)
    with pytest.raises(RuntimeError):
        services.create_user(email="ada@example.org", name="Ada")

    assert not User.objects.exists()
    assert not OutboxEvent.objects.exists()


@pytest.mark.parametrize("again", ["ada@example.org", "ADA@example.org", "Ada@Example.ORG"])
def test_emails_are_compared_case_insensitively(again):
    services.create_user(email="ada@example.org", name="Ada")

    with pytest.raises(EmailTaken):
        services.create_user(email=again, name="Another Ada")

    assert OutboxEvent.objects.count() == 1


def test_the_database_rejects_a_duplicate_email():
    User.objects.create(email="ada@example.org", name="Ada")

    with pytest.raises(IntegrityError), transaction.atomic(using="users"):
        User.objects.create(email="ADA@EXAMPLE.ORG", name="Ada")


def test_changing_keeps_values_that_are_not_given():
    user = services.create_user(email="ada@example.org", name="Ada")

    changed = services.change_user(user_id=user.id, name="Ada Lovelace")

    assert (changed.email, changed.name) == ("ada@example.org", "Ada Lovelace")
    assert User.objects.get().name == "Ada Lovelace"
    assert OutboxEvent.objects.count() == 1


def test_a_change_can_change_the_case_of_an_email_but_not_take_another_users():
    services.create_user(email="ada@example.org", name="Ada")
    bob = services.create_user(email="bob@example.org", name="Bob")

    with pytest.raises(EmailTaken):
        services.change_user(user_id=bob.id, email="Ada@example.org")

    assert services.change_user(user_id=bob.id, email="Bob@example.org").email == "Bob@example.org"


def test_unknown_users_cannot_be_changed_or_deleted():
    with pytest.raises(services.NoSuchUser):
        services.change_user(user_id=uuid.uuid4(), name="Nobody")
    with pytest.raises(services.NoSuchUser):
        services.delete_user(user_id=uuid.uuid4())


def test_deleting():
    user = services.create_user(email="ada@example.org", name="Ada")

    services.delete_user(user_id=user.id)

    assert not User.objects.exists()


def test_an_error_about_a_taken_email_does_not_quote_it():
    services.create_user(email="ada@example.org", name="Ada")

    with pytest.raises(EmailTaken) as refused:
        services.create_user(email="ada@example.org", name="Ada")

    assert "ada" not in str(refused.value)
    assert refused.value.__context__ is None  # no error of the database's, which quotes it


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_one_of_many_concurrent_claims_of_an_email_succeeds():
    outcomes = []
    start = threading.Barrier(8)

    def want(number):
        try:
            start.wait()
            services.create_user(email=f"{'ada' if number % 2 else 'ADA'}@example.org", name=f"Ada {number}")
            outcomes.append("created")
        except EmailTaken:
            outcomes.append("taken")
        finally:
            connections["users"].close()

    threads = [threading.Thread(target=want, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["created"] + ["taken"] * 7
    assert User.objects.count() == OutboxEvent.objects.count() == 1
