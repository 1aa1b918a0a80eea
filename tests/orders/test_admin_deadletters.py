"""Dead letters and parked rows in the admin of orders: viewed, redriven, retried and discarded, with permission."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.contrib.auth.models import User as Person
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from structlog.testing import capture_logs

from chassis.deadletters import admin, store
from chassis.deadletters.store import Store, Wanted
from chassis.kafka import names
from chassis.kafka.patience import Patience
from chassis.messaging.models import OutboxEvent
from chassis.outbox import parked
from tests.chassis.support import dead_letters
from tests.chassis.support.kafka_helpers import make_topic, new_topic

pytestmark = pytest.mark.django_db(databases=["orders"])

CONFIRMED = {"confirmed": "yes"}
DIED = datetime.now(UTC) - timedelta(days=10)
"""Within the inbox's memory."""
LATER = (DIED + timedelta(seconds=1)).strftime("%Y-%m-%d+%H:%M:%S")
LIST, DECIDE = "/admin/messaging/deadletter/", "/admin/messaging/deadletter/decide/"


@pytest.fixture
def topic(monkeypatch, settings) -> str:
    """A topic of this test's own, with its dead-letter topic."""
    settings.SERVICE_NAME = f"orders-{uuid.uuid4().hex[:8]}"
    name = new_topic("counted", partitions=2)
    make_topic(names.dead_letter_topic(name), partitions=2)
    monkeypatch.setattr(store, "registered", lambda: {name: None})
    return name


LOOK_SECONDS = admin.LOOK_SECONDS


@pytest.fixture
def ids(topic, settings, monkeypatch) -> list[str]:
    monkeypatch.setattr(admin, "LOOK_SECONDS", 30.0)  # patience with a busy machine, on which two seconds are a 503
    dead = names.dead_letter_topic(topic)
    first = dead_letters.write(
        dead,
        dead_letters.failed(topic, 1, key=b"k1", value=b'{"number": 1, "note": "<b>"}'),
        dead_letters.unreadable(topic, 2, key=b"k2"),
        at=DIED.isoformat(),
    )
    return first + dead_letters.write(
        dead, dead_letters.failed(topic, 3, key=b"k3", error=ValueError("lost: ada@example.org"))
    )


def login(*permissions: str, staff: bool = True) -> Client:
    client = Client()
    person = Person.objects.create_user("ada", is_staff=staff)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert person.user_permissions.count() == len(permissions)
    client.force_login(person)
    return client


EVERYTHING = ("view_deadletter", "redrive_deadletter", "discard_deadletter")


def link(letter_id: str) -> str:
    return reverse("admin:messaging_deadletter_change", args=[letter_id])


def unresolved() -> list[str]:
    return [letter.id for letter in Store(Patience(30)).unresolved(Wanted())]


def said(answer) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {0, 1, 2}),
        ("?reason=unreadable", {1}),
        ("?key=k1", {0}),
        ("?key=k1&reason=unreadable", set()),
        ("?since=LATER", {2}),
        ("?until=LATER&topic=", {0, 1}),
        ("?topic=nonsense", set()),
        ("?since=soon", set()),
    ],
)
def test_the_list_and_its_filters(ids, query, shown):
    page = login(*EVERYTHING).get(LIST + query.replace("LATER", LATER))

    assert page.status_code == 200
    assert {n for n, one in enumerate(ids) if link(one) in page.text} == shown


def test_it_is_on_the_first_page(ids):
    assert LIST in login(*EVERYTHING).get("/admin/").text


def test_all_details_of_one(topic, ids, settings):
    client = login(*EVERYTHING, "reveal_deadletter")
    page = client.get(f"{link(ids[0])}?reveal=1")

    assert page.status_code == 200
    for text in (
        "&quot;number&quot;: 1",
        "ValueError: number 1",
        "event-1",
        "req-1",
        topic,
        "&lt;b&gt;",
        ">Redrive<",
        ">Discard<",
        names.dead_letter_topic(topic),
    ):
        assert text in page.text
    assert "<b>" not in page.text
    assert r"\xff junk" in client.get(f"{link(ids[1])}?reveal=1").text
    assert "ada@" not in client.get(link(ids[2])).text
    assert client.get(link("nobody")).status_code == 404


class TestPersonalData:
    """It is hidden until a user with the permission requests it, which is logged."""

    @pytest.fixture
    def one(self, topic) -> str:
        payload = b'{"userId": "u1", "name": "Ada", "email": "ada@example.org"}'
        [one] = dead_letters.write(names.dead_letter_topic(topic), dead_letters.failed(topic, 1, value=payload))
        return one

    def test_is_hidden_at_first(self, one):
        page = login(*EVERYTHING, "reveal_deadletter").get(link(one)).text
        assert ("u1" in page, "Ada" in page, "ada@" in page, "?reveal=1" in page) == (True, False, False, True)

    def test_is_shown_and_logged(self, one):
        with capture_logs() as logs:
            page = login(*EVERYTHING, "reveal_deadletter").get(f"{link(one)}?reveal=1").text
        assert "ada@example.org" in page
        [line] = [line for line in logs if line["event"] == "personal data revealed"]
        assert (line["by"], line["deadletter_id"]) == ("ada", one)

    def test_is_not_shown_without_permission(self, one):
        page = login(*EVERYTHING).get(f"{link(one)}?reveal=1").text
        assert ("Ada" in page, "?reveal=1" in page) == (False, False)

    def test_what_is_not_json_is_hidden_altogether(self, ids):
        page = login(*EVERYTHING).get(link(ids[1])).text
        assert ("junk</pre>" in page, "bytes that are not JSON: hidden" in page) == (False, True)


def test_redriving_one_in_the_name_of_the_person(topic, ids):
    answer = login(*EVERYTHING).post(DECIDE, {**CONFIRMED, "action": "redrive", "id": ids[0]}, follow=True)

    assert said(answer) == ["1 redriven."]
    assert link(ids[0]) not in answer.text
    assert dead_letters.redriven(topic) == {ids[0]: 1}
    assert Store(Patience(30)).resolutions()[ids[0]].by == "ada"


def test_events_that_may_be_purged_from_the_inbox_need_the_command(topic, ids, settings):
    settings.INBOX_RETENTION_HOURS = 24
    answer = login(*EVERYTHING).post(DECIDE, {**CONFIRMED, "action": "redrive", "id": [ids[0], ids[2]]}, follow=True)

    [done, left] = sorted(said(answer))
    assert done.startswith("1 not redriven: they are older than INBOX_RETENTION_HOURS.")
    assert done.endswith("then use `manage.py deadletters redrive --force`.")
    assert left == "1 redriven."
    assert dead_letters.redriven(topic) == {ids[2]: 1}
    assert ids[0] in unresolved()


def test_discarding_several_twice(topic, ids):
    client = login(*EVERYTHING)
    assert said(client.post(DECIDE, {**CONFIRMED, "action": "discard", "id": ids[:2]}, follow=True)) == ["2 discarded."]
    again = client.post(DECIDE, {**CONFIRMED, "action": "redrive", "id": ids[:2]}, follow=True)

    assert said(again) == ["2 not redriven: they may have been resolved already."]
    assert unresolved() == ids[2:]
    assert dead_letters.everything(topic) == []
    page = client.get(link(ids[0])).text
    assert "discarded by ada" in page
    assert ">Redrive<" not in page


def test_choosing_none_does_nothing(ids):
    answer = login(*EVERYTHING).post(DECIDE, {"action": "redrive"}, follow=True)

    assert said(answer) == ["No dead letter was selected."]
    assert sorted(unresolved()) == sorted(ids)


@pytest.mark.parametrize("action", ["redrive", "discard"])
def test_nothing_is_decided_before_it_is_confirmed(topic, ids, action):
    page = login(*EVERYTHING).post(DECIDE, {"action": action, "id": ids[:2]}).text

    for text in (ids[0], ids[1], "ValueError: number 1", "unreadable after 3", "Yes, I am sure"):
        assert text in page
    assert ids[2] not in page
    assert sorted(unresolved()) == sorted(ids)
    assert dead_letters.everything(topic) == []


class TestWhoMay:
    """Staff only, and each action only with its permission."""

    def test_users_with_view_permission_have_no_actions(self, ids):
        client = login("view_deadletter")
        for page in (client.get(LIST), client.get(link(ids[0]))):
            assert page.status_code == 200
            assert 'name="action"' not in page.text
        for action in ("redrive", "discard"):
            assert client.post(DECIDE, {"action": action, "id": ids}).status_code == 403
        assert sorted(unresolved()) == sorted(ids)

    def test_each_has_its_own_permission(self, ids):
        client = login("view_deadletter", "discard_deadletter")
        page = client.get(link(ids[0])).text
        assert (">Discard<" in page, ">Redrive<" in page) == (True, False)
        assert client.post(DECIDE, {**CONFIRMED, "action": "redrive", "id": ids}).status_code == 403
        assert client.post(DECIDE, {**CONFIRMED, "action": "discard", "id": ids[0]}).status_code == 302
        assert sorted(unresolved()) == sorted(ids[1:])

    def test_staff_without_permission_see_nothing(self, ids):
        client = login("redrive_deadletter")
        assert [client.get(LIST).status_code, client.get(link(ids[0])).status_code] == [403, 403]
        assert client.post(DECIDE, {**CONFIRMED, "action": "redrive", "id": ids}).status_code == 403

    @pytest.mark.parametrize("client", [Client, lambda: login(*EVERYTHING, staff=False)])
    def test_all_others_have_to_log_in(self, ids, client):
        client = client()
        for answer in (
            client.get(LIST),
            client.get(link(ids[0])),
            client.post(DECIDE, {**CONFIRMED, "action": "redrive", "id": ids}),
        ):
            assert answer.status_code == 302
            assert answer["Location"].startswith("/admin/login/")
        assert sorted(unresolved()) == sorted(ids)

    def test_only_a_form_with_its_token_is_accepted(self, ids):
        client = login(*EVERYTHING)
        client.handler.enforce_csrf_checks = True
        assert client.post(DECIDE, {**CONFIRMED, "action": "redrive", "id": ids}).status_code == 403
        assert client.get(DECIDE).status_code == 405
        assert sorted(unresolved()) == sorted(ids)

    def test_an_unknown_action_is_refused(self, ids):
        assert login(*EVERYTHING).post(DECIDE, {**CONFIRMED, "action": "delete", "id": ids}).status_code == 403


def test_without_a_broker_each_page_reports_it_in_time(ids, settings, monkeypatch):
    monkeypatch.setattr(admin, "LOOK_SECONDS", LOOK_SECONDS)
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    client = login(*EVERYTHING)
    for ask in (lambda: client.get(LIST), lambda: client.get(link(ids[0]))):
        started = time.monotonic()
        page = ask()
        assert time.monotonic() - started < 20, "a person's patience, not a command's"
        assert (page.status_code, "Kafka does not respond" in page.text) == (503, True)
    started = time.monotonic()
    answer = client.post(DECIDE, {**CONFIRMED, "action": "redrive", "id": ids})
    assert time.monotonic() - started < 20
    assert answer.status_code == 302


def test_a_service_that_consumes_nothing_has_no_such_page(monkeypatch):
    monkeypatch.setattr(store, "registered", dict)

    assert LIST not in login(*EVERYTHING, "view_outboxevent").get("/admin/").text


class TestParkedRows:
    """In the list of outbox events."""

    OUTBOX = "/admin/messaging/outboxevent/"

    @pytest.fixture
    def row(self) -> OutboxEvent:
        return OutboxEvent.objects.create(
            event_id=uuid.uuid4(), topic="t", key="k", payload=b"{}", headers=[], request_id="r",
            parked_at=Now(), parked_reason="2000000 bytes",
        )  # fmt: skip

    def decide(self, client: Client, action: str, row: OutboxEvent, confirmed=CONFIRMED):
        chosen = {"action": action, "_selected_action": [row.position]}
        return client.post(self.OUTBOX, {**confirmed, **chosen}, follow=True)

    def test_are_found_with_their_reason(self, row):
        client = login("view_outboxevent")
        assert "2000000 bytes" in client.get(f"{self.OUTBOX}?state=parked").text
        for state in ("waiting", "sent", "discarded"):
            assert "2000000 bytes" not in client.get(f"{self.OUTBOX}?state={state}").text

    def test_are_retried(self, row):
        answer = self.decide(login("view_outboxevent", "retry_outboxevent"), "retry_parked", row)
        assert said(answer) == ["1 retried."]
        row.refresh_from_db()
        assert (row.parked_at, row.parked_reason, row.discarded_at) == (None, None, None)

    def test_are_discarded_and_stay_visible(self, row):
        client = login("view_outboxevent", "discard_outboxevent")
        assert said(self.decide(client, "discard_parked", row)) == ["1 discarded."]
        row.refresh_from_db()
        assert row.discarded_by == "ada"
        page = client.get(f"{self.OUTBOX}{row.position}/change/").text
        for text in ("discarded", "ada", "2000000 bytes"):
            assert text in page
        assert said(self.decide(client, "discard_parked", row)) == ["1 not discarded: not parked."]

    def test_are_discarded_only_when_that_is_confirmed(self, row):
        page = self.decide(login("view_outboxevent", "discard_outboxevent"), "discard_parked", row, confirmed={}).text
        for text in ("2000000 bytes", f'name="_selected_action" value="{row.position}"'):
            assert text in page
        assert parked.rows().get() == row

    def test_only_with_permission(self, row):
        client = login("view_outboxevent")
        for action in ("retry_parked", "discard_parked"):
            assert action not in client.get(self.OUTBOX).text
            self.decide(client, action, row)
        assert parked.rows().get() == row
