"""The page of the admin that follows a request, a user or an order."""

import time
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.contrib.auth.models import User as Person
from django.test import Client
from structlog.testing import capture_logs

from chassis.deadletters.record import FailedRecord
from chassis.kafka.records import Record
from chassis.messaging.models import OutboxEvent
from chassis.observability import correlation
from orders import services
from orders.models import Order

pytestmark = pytest.mark.django_db(databases=["orders"])

PAGE = "/admin/messaging/story/"


def login(*permissions: str, staff: bool = True) -> Client:
    client = Client()
    person = Person.objects.create_user("ada", is_staff=staff)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert person.user_permissions.count() == len(permissions)
    client.force_login(person)
    return client


@pytest.fixture
def order() -> Order:
    with correlation.bind_request_id("request-1"):
        return services.create_order(
            user_id="u1", items=[{"productId": "tea-pot", "quantity": 1, "price": Decimal("19.99")}]
        )


def test_an_order_with_its_steps_and_where_it_is(order):
    page = login("view_story").get(f"{PAGE}?id={order.id}")
    assert page.status_code == 200
    for text in (f"order {order.id}", "wrote order.created to the outbox", "request-1", "the relay has not sent it"):
        assert text in page.text


def test_by_its_request(order):
    assert str(order.id) in login("view_story").get(f"{PAGE}?id=request-1").text


def test_links_lead_to_what_the_user_may_see(order):
    row = OutboxEvent.objects.get()
    link = f"/admin/messaging/outboxevent/{row.position}/change/"
    client = login("view_story", "view_outboxevent")
    assert link in client.get(f"{PAGE}?id={order.id}").text
    assert f"{PAGE}?id=request-1" in client.get(link).text
    Person.objects.get().user_permissions.set(Permission.objects.filter(codename="view_story"))
    assert link not in client.get(f"{PAGE}?id={order.id}").text


def test_a_dead_letter_is_linked(order):
    failed = FailedRecord(Record("payment.completed", 0, 1, str(order.id).encode(), b"{}", [], 0), ValueError("x"), 3)
    headers = [(name, (value or b"").decode()) for name, value in failed.headers()]
    OutboxEvent.objects.create(
        event_id="1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", topic="payment.completed.orders.dlq", key=str(order.id), payload=b"{}",
        headers=headers, request_id="request-1",
    )  # fmt: skip
    page = login("view_story", "view_deadletter").get(f"{PAGE}?id={order.id}").text
    assert f"/admin/messaging/deadletter/{failed.id}/" in page


@pytest.mark.parametrize("given", ["nothing-known", "a b", "%00", "x" * 200, "<b>", "%ff"])
def test_an_id_without_a_story_is_explained(given):
    page = login("view_story").get(f"{PAGE}?id={given}")
    assert (page.status_code, "errornote" in page.text) == (200, True)
    assert "<b>" not in page.text


def test_without_an_id_it_asks_for_one():
    page = login("view_story").get(PAGE)
    assert (page.status_code, 'name="id"' in page.text, "errornote" in page.text) == (200, True, False)


def test_it_is_on_the_first_page():
    assert PAGE in login("view_story").get("/admin/").text


def test_without_a_broker_it_says_so_in_time(order, settings):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    started = time.monotonic()
    page = login("view_story").get(f"{PAGE}?id={order.id}")
    assert time.monotonic() - started < 30, "one attempt, not one per question"
    assert (page.status_code, "the topics cannot be read" in page.text) == (200, True)


class TestWhoMay:
    def test_staff_without_the_permission_see_nothing(self):
        client = login("view_outboxevent")
        assert client.get(PAGE).status_code == 403
        assert PAGE not in client.get("/admin/").text

    def test_all_others_have_to_log_in(self):
        for client in (Client(), login("view_story", staff=False)):
            answer = client.get(f"{PAGE}?id=x")
            assert (answer.status_code, answer["Location"].startswith("/admin/login/")) == (302, True)


class TestOutboxRow:
    """Personal data in it is hidden until a user with the permission requests it, which is logged."""

    @pytest.fixture
    def page(self) -> str:
        row = OutboxEvent.objects.create(
            event_id="1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", topic="t", key="k", payload=b'{"id": "u1", "name": "<i>Ada"}',
            headers=[["customer-name", "Ada"], ["raw", {"base64": "/w=="}]], request_id="",
        )  # fmt: skip
        return f"/admin/messaging/outboxevent/{row.position}/change/"

    def test_is_hidden_at_first(self, page):
        text = login("view_outboxevent", "reveal_outboxevent").get(page).text
        assert ("u1" in text, "Ada" in text, "?reveal=1" in text) == (True, False, True)

    def test_is_shown_and_logged(self, page):
        with capture_logs() as logs:
            text = login("view_outboxevent", "reveal_outboxevent").get(f"{page}?reveal=1").text
        assert ("&lt;i&gt;Ada" in text, "customer-name: Ada" in text) == (True, True)
        assert [line["by"] for line in logs if line["event"] == "personal data revealed"] == ["ada"]

    def test_is_not_shown_without_permission(self, page):
        text = login("view_outboxevent").get(f"{page}?reveal=1").text
        assert ("Ada" in text, "?reveal=1" in text) == (False, False)

    @pytest.mark.parametrize("payload", [None, b"", b"\xff", b"Ada", b"[" * 100_000])
    def test_any_payload_has_a_page(self, page, payload):
        OutboxEvent.objects.update(payload=payload, headers={"not": "a list"})
        client = login("view_outboxevent", "reveal_outboxevent")
        for query in ("", "?reveal=1"):
            assert client.get(f"{page}{query}").status_code == 200
