"""Users in the admin, through the same use cases."""

import uuid

import pytest
from django.contrib.auth.models import User as Person
from django.db import connections
from django.test import Client

from chassis.messaging.models import InboxEvent, OutboxEvent
from users import services
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"])


@pytest.fixture
def admin():
    client = Client()
    client.force_login(Person.objects.create_superuser("root", "root@example.org", "secret"))
    return client


def test_adding_publishes(admin):
    answer = admin.post("/admin/users/user/add/", {"email": " ada@example.org ", "name": "Ada"})

    assert answer.status_code == 302
    user = User.objects.get()
    assert (user.email, user.name) == ("ada@example.org", "Ada")
    assert OutboxEvent.objects.get().key == str(user.id)


def test_changing_and_deleting(admin):
    user = services.create_user(email="ada@example.org", name="Ada")

    admin.post(f"/admin/users/user/{user.id}/change/", {"email": "ADA@example.org", "name": "Ada L."})
    assert User.objects.get().name == "Ada L."

    admin.post(f"/admin/users/user/{user.id}/delete/", {"post": "yes"})
    assert not User.objects.exists()
    assert OutboxEvent.objects.count() == 1


def test_deleting_several(admin):
    ids = [str(services.create_user(email=f"{n}@example.org", name="N").id) for n in range(3)]

    admin.post("/admin/users/user/", {"action": "delete_selected", "_selected_action": ids[:2], "post": "yes"})

    assert [str(user.id) for user in User.objects.all()] == ids[2:]


@pytest.mark.parametrize(
    ("email", "name"),
    [
        ("ADA@example.org", "Ada"),
        ("b@example.org", "A\x07"),
        ("ä@example.org", "A"),
        ("b", "A"),
        ("b@example.org", ""),
        ("b@example.org", "\u200b"),
        ("b" * 65 + "@example.org", "B"),
    ],
)
def test_it_rejects_input_that_the_api_rejects(admin, email, name):
    services.create_user(email="ada@example.org", name="Ada")

    answer = admin.post("/admin/users/user/add/", {"email": email, "name": name})

    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors
    assert User.objects.count() == 1


def test_an_email_taken_since_validation_is_a_message(admin, monkeypatch):
    services.create_user(email="ada@example.org", name="Ada")
    monkeypatch.setattr(User, "validate_constraints", lambda *_, **__: None)  # as if it was free when the form looked
    answer = admin.post("/admin/users/user/add/", {"email": "Ada@example.org", "name": "Ada"}, follow=True)

    assert answer.status_code == 200
    assert [str(message) for message in answer.context["messages"]] == ["This email is taken."]
    assert User.objects.count() == 1


@pytest.mark.parametrize("query", ["", "?q=ada", "?q=example.org", "?q=%00", "?o=1", "?created_at__year=2020"])
def test_lists(admin, query):
    user = services.create_user(email="ada@example.org", name="Ada")

    answer = admin.get(f"/admin/users/user/{query}")

    assert answer.status_code == 200
    assert (str(user.id) in answer.text) == ("year" not in query)


def test_events_can_be_viewed(admin):
    user = services.create_user(email="ada@example.org", name="Ada")

    answer = admin.get(f"/admin/messaging/outboxevent/?q={user.id}")

    assert answer.status_code == 200
    assert "user.created" in answer.text


@pytest.mark.parametrize("page", ["outboxevent", "inboxevent"])
def test_lists_truncate_a_huge_key(admin, page):
    OutboxEvent.objects.create(
        event_id=uuid.uuid4(), topic="t", key="k" * 900_000, payload=b"", headers=[], request_id="r"
    )
    InboxEvent.objects.create(event_id="1", source="s", topic="t", key="k" * 900_000, request_id="r")

    answer = admin.get(f"/admin/messaging/{page}/")

    assert "k" * 80 + "…" in answer.text
    assert len(answer.text) < 100_000


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "4713-01-01 BC", "294276-12-31"])
def test_rows_with_any_timestamp_are_shown(admin, moment):
    row = OutboxEvent.objects.create(
        event_id=uuid.uuid4(), topic="t", key="k", payload=b"", headers=[], request_id="r", parked_reason="no reason"
    )
    InboxEvent.objects.create(event_id="1", source="s", topic="t", key="k", request_id="r")
    with connections["users"].cursor() as cursor:
        cursor.execute("UPDATE outbox SET created_at = %s, parked_at = %s, sent_at = NULL", [moment, moment])
        cursor.execute("UPDATE inbox SET consumed_at = %s", [moment])

    for page in ("outboxevent/", f"outboxevent/{row.pk}/change/", "inboxevent/", "inboxevent/1/change/"):
        answer = admin.get(f"/admin/messaging/{page}")
        assert answer.status_code == 200, page
        assert "Dec. 30, 9999" in answer.text or "Jan. 1, 1000" in answer.text, page


def test_the_url_without_the_slash_redirects(admin):
    assert admin.get("/admin", follow=True).redirect_chain == [("/admin/", 302)]


def test_a_form_without_its_token_is_a_problem():
    answer = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "root", "password": "x"})

    assert answer.status_code == 403
    assert answer["Content-Type"] == "application/problem+json"
