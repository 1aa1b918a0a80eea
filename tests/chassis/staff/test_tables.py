"""The outbox and the inbox as staff see them."""

import json
import uuid

import pytest
from django.db import connections
from django.db.models.functions import Now
from structlog.testing import capture_logs

from chassis.messaging.models import InboxEvent, OutboxEvent
from chassis.staff import inbox, outbox
from tests.chassis.staff.clients import NAME, operator, person

pytestmark = pytest.mark.django_db(databases=["users"])

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PAYLOAD = {
    "userId": "u1",
    "email": "ada@example.org",
    "name": "Ada",
    "note": "write to ada@example.org",
    "amount": 19.99,
}


def row(**more) -> OutboxEvent:
    fields = {
        "event_id": uuid.uuid4(), "topic": "user.created", "key": "u1", "payload": json.dumps(PAYLOAD).encode(),
        "headers": [["requestId", "r1"], ["traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"], ["customer-name", "Ada"]],
        "request_id": "r1",
    }  # fmt: skip
    return OutboxEvent.objects.create(**fields | more)


def listed(query: str = "") -> dict:
    answer = operator().get(f"/staff/outbox{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def positions(query: str = "") -> list[int]:
    return [one["position"] for one in listed(query)["results"]]


class TestOutbox:
    @pytest.fixture
    def rows(self) -> dict[str, int]:
        made = {
            "sent": row(sent_at=Now()),
            "unsent": row(key="u2", request_id="r2"),
            "parked": row(parked_at=Now(), parked_reason="2000000 bytes, of ada@example.org"),
            "discarded": row(parked_at=Now(), parked_reason="x", discarded_at=Now(), discarded_by="ada"),
        }
        return {name: one.position for name, one in made.items()}

    @pytest.mark.parametrize("state", ["sent", "unsent", "parked", "discarded"])
    def test_by_state(self, rows, state):
        [one] = listed(f"?state={state}")["results"]
        assert (one["position"], one["state"]) == (rows[state], state)

    def test_all_newest_first_with_counts(self, rows):
        page = listed()
        assert [one["position"] for one in page["results"]] == sorted(rows.values(), reverse=True)
        assert page["next_before"] is None
        assert (page["counts"]["unsent"], page["counts"]["parked"]) == (1, 1)
        assert page["counts"]["oldest_unsent_seconds"] >= 0

    def test_a_row_says_everything_but_its_content(self, rows):
        [one] = listed("?state=parked")["results"]
        assert (one["topic"], one["key"], one["request_id"], one["trace_id"]) == ("user.created", "u1", "r1", TRACE)
        assert (one["parked_reason"], one["payload_bytes"]) == ("2000000 bytes, of [hidden]", len(json.dumps(PAYLOAD)))
        assert one["created_at"].endswith("Z")
        assert "Ada" not in json.dumps(one)

    @pytest.mark.parametrize(
        ("query", "states"),
        [
            ("key=u2", {"unsent"}),
            ("request_id=r2", {"unsent"}),
            ("topic=user.created&state=sent", {"sent"}),
            ("topic=other", set()),
            ("key=u2&state=sent", set()),
        ],
    )
    def test_filters(self, rows, query, states):
        assert set(positions(f"?{query}")) == {rows[one] for one in states}

    def test_by_event_id(self, rows):
        wanted = OutboxEvent.objects.get(position=rows["parked"])
        assert positions(f"?event_id={wanted.event_id}") == [wanted.position]

    def test_topics_are_named_with_and_without_the_prefix(self, settings):
        settings.KAFKA_PREFIX = "staging."
        made = row(topic="staging.user.created")
        for name in ("user.created", "staging.user.created"):
            assert positions(f"?topic={name}") == [made.position]
        assert listed()["results"][0]["topic"] == "user.created"

    def test_pages_contain_each_row_once(self):
        made = [row().position for _ in range(7)]
        found, before = [], None
        while True:
            page = listed("?limit=3" + (f"&before={before}" if before else ""))
            found += [one["position"] for one in page["results"]]
            if (before := page["next_before"]) is None:
                break
        assert found == sorted(made, reverse=True)

    def test_a_large_table_is_searched_in_parts(self, monkeypatch):
        monkeypatch.setattr(outbox, "SEARCHED", 3)
        made = [row(key="rare" if n in {0, 9} else "often").position for n in range(10)]
        found, before, pages = [], None, 0
        while True:
            page = listed("?key=rare" + (f"&before={before}" if before else ""))
            found += [one["position"] for one in page["results"]]
            pages += 1
            if (before := page["next_before"]) is None:
                break
        assert found == [made[9], made[0]]
        assert pages == 4

    def test_values_that_python_cannot_represent(self):
        made = row(headers={"not": "a list"})
        with connections["users"].cursor() as cursor:
            cursor.execute("UPDATE outbox SET created_at = 'infinity', sent_at = '-infinity'")
        [one] = listed()["results"]
        assert (one["created_at"], one["sent_at"], one["state"], one["trace_id"]) == (None, None, "sent", "")
        assert operator().get(f"/staff/outbox/{made.position}").json()["headers"] is None


class TestOneRow:
    def get(self, client, path) -> dict:
        answer = client.get(path)
        assert answer.status_code == 200, answer.content
        return answer.json()

    def test_without_personal_data(self):
        made = row()
        with capture_logs() as logs:
            one = self.get(operator(), f"/staff/outbox/{made.position}")
        content = json.loads(one["payload"]["content"])
        assert content == PAYLOAD | {"email": "[hidden]", "name": "[hidden]", "note": "write to [hidden]"}
        assert (one["payload"]["encoding"], one["payload"]["masked"], one["payload"]["truncated"]) == (
            "json",
            True,
            False,
        )
        assert dict(one["headers"])["customer-name"] == "[hidden]"
        assert dict(one["headers"])["requestId"] == "r1"
        assert not [line for line in logs if "revealed" in line["event"]]

    def test_with_personal_data_which_is_logged(self):
        made = row()
        with capture_logs() as logs:
            one = self.get(operator(), f"/staff/outbox/{made.position}?reveal=1")
        assert one["payload"]["content"] == json.dumps(PAYLOAD)
        assert dict(one["headers"])["customer-name"] == "Ada"
        [line] = [line for line in logs if line["event"] == "personal data revealed"]
        assert (line["by"], line["position"], line["event_id"]) == (NAME, made.position, str(made.event_id))

    def test_the_log_names_the_user_of_a_session(self):
        made = row()
        with capture_logs() as logs:
            self.get(person("view_outboxevent", "reveal_outboxevent"), f"/staff/outbox/{made.position}?reveal=true")
        assert [line["by"] for line in logs if line["event"] == "personal data revealed"] == ["grace"]

    @pytest.mark.parametrize(
        ("payload", "encoding", "content"),
        [
            (b"", "text", ""),
            (None, "none", None),
            (b"Ada, ada@example.org", "text", "Ada, ada@example.org"),
            (b"\xff\x00", "base64", "/wA="),
            (b'"Ada"', "text", '"Ada"'),
            (b"[" * 100_000, "text", "[" * 100_000),
            (b"[" * 200 + b"]" * 200, "json", "[" * 200 + "]" * 200),
        ],
    )
    def test_what_is_no_json_is_hidden_as_a_whole(self, payload, encoding, content):
        made = row(payload=payload)
        hidden = self.get(operator(), f"/staff/outbox/{made.position}")["payload"]
        shown = self.get(operator(), f"/staff/outbox/{made.position}?reveal=1")["payload"]
        assert (shown["encoding"], shown["content"], shown["masked"]) == (encoding, content, False)
        assert hidden["content"] in ({content} if encoding == "json" else {None})

    def test_a_huge_payload_is_cut(self):
        made = row(payload=b'{"a": "' + b"x" * 3_000_000 + b'"}', headers=[["big", "x" * 3_000_000]])
        shown = self.get(operator(), f"/staff/outbox/{made.position}?reveal=1")
        assert (shown["payload"]["size"], shown["payload"]["truncated"]) == (3_000_009, True)
        assert len(shown["payload"]["content"]) == 1_048_576
        assert shown["headers"] is None

    def test_there_is_none(self):
        for position in ("0", "1", "9" * 30, "9" * 5000):
            assert operator().get(f"/staff/outbox/{position}").status_code == 404


class TestInbox:
    def test_pages_contain_each_row_once_although_a_batch_has_one_time(self):
        InboxEvent.objects.bulk_create(
            InboxEvent(event_id=f"e{n}", source="/s", topic="user.created", key=f"k{n % 2}", request_id="r")
            for n in range(10)
        )
        found, before = [], None
        while True:
            answer = operator().get("/staff/inbox?limit=3" + (f"&before={before}" if before else ""))
            assert answer.status_code == 200, answer.content
            found += [one["event_id"] for one in answer.json()["results"]]
            if (before := answer.json()["next_before"]) is None:
                break
        assert found == sorted(f"e{n}" for n in range(10))

    @pytest.mark.parametrize(
        ("query", "number"),
        [("key=k1", 5), ("event_id=e3", 1), ("topic=user.created", 10), ("topic=x", 0), ("request_id=r", 10)],
    )
    def test_filters(self, query, number):
        InboxEvent.objects.bulk_create(
            InboxEvent(event_id=f"e{n}", source="/s", topic="user.created", key=f"k{n % 2}", request_id="r")
            for n in range(10)
        )
        assert len(operator().get(f"/staff/inbox?{query}").json()["results"]) == number

    def test_filters_search_the_newest_rows(self, monkeypatch):
        monkeypatch.setattr(inbox, "SEARCHED", 2)
        for n in range(4):
            InboxEvent.objects.create(event_id=f"e{n}", source="/s", topic="t", key="k", request_id="r")
            with connections["users"].cursor() as cursor:
                cursor.execute(f"UPDATE inbox SET consumed_at = to_timestamp({n}) WHERE event_id = 'e{n}'")
        found = [one["event_id"] for one in operator().get("/staff/inbox?key=k").json()["results"]]
        assert found == ["e3", "e2"]


@pytest.mark.service("payments")
def test_a_service_without_a_database_has_neither():
    for path in ("/staff/outbox", "/staff/outbox/1", "/staff/inbox"):
        assert operator().get(path).status_code == 404
