"""Dead letters of orders over the staff API: grouped, redriven, discarded and edited, on the real broker."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer
from django.contrib.auth.models import Permission
from django.contrib.auth.models import User as Person
from structlog.testing import capture_logs

from chassis.deadletters.record import FailedRecord
from chassis.deadletters.store import Store, Wanted
from chassis.kafka import names
from chassis.kafka.patience import Patience
from chassis.kafka.records import Record
from chassis.messaging.models import OutboxEvent
from chassis.staff import decisions
from tests.chassis.staff.clients import NAME, operator, person
from tests.chassis.support import dead_letters
from tests.chassis.support.kafka_helpers import headers, make_topic, servers
from tests.waiting import eventually

pytestmark = [
    pytest.mark.service("orders"),
    pytest.mark.django_db(databases=["orders"]),
    # confluent-kafka's word about a producer whose broker disappears
    pytest.mark.filterwarnings("ignore:Producer abort_transaction failed during close"),
]

LIST, REDRIVE, DISCARD = "/staff/dead-letters", "/staff/dead-letters/redrive", "/staff/dead-letters/discard"
USER = {"userId": "u1", "email": "ada@example.org", "name": "Ada", "createdAt": "2026-11-30T07:00:00Z"}
NOW = datetime.now(UTC)


@pytest.fixture
def topic(settings) -> str:
    settings.KAFKA_PREFIX = f"t-{uuid.uuid4().hex[:8]}."
    for event in ("user.created", "payment.completed"):
        make_topic(names.dead_letter_topic(make_topic(f"{settings.KAFKA_PREFIX}{event}", partitions=2)), partitions=2)
    return f"{settings.KAFKA_PREFIX}user.created"


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def letters(
    topic: str, *errors: Exception, first: int = 1, at: datetime | None = None, payload: bytes | None = None
) -> list[str]:
    """Write a dead letter with each of these errors. Returns their ids."""
    value = json.dumps(USER).encode() if payload is None else payload
    kept = [("ce_id", b"event"), ("ce_source", b"/users"), ("requestId", b"r1"), ("customer-name", b"Ada")]
    failed = [
        FailedRecord(Record(topic, 0, number, b"u%d" % number, value, kept, 1_000), raised(error), 3)
        for number, error in enumerate(errors, start=first)
    ]
    written = (at or NOW).isoformat(timespec="milliseconds")
    return dead_letters.write(names.dead_letter_topic(topic), *failed, at=written)


def get(path: str = LIST) -> dict:
    answer = operator().get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()


def post(path: str, content: object, client=None):
    return (client or operator()).post(path, json.dumps(content), content_type="application/json")


def lines(answer) -> list[dict]:
    assert answer.status_code == 200, answer.content
    return [json.loads(line) for line in answer.streaming_content]


def unresolved() -> list[str]:
    return sorted(letter.id for letter in Store(Patience(30)).unresolved(Wanted()))


class TestGroups:
    def test_have_a_common_cause(self, topic):
        old = letters(topic, ValueError("number 1"), ValueError("number 2"), at=NOW - timedelta(days=1))
        new = letters(topic, ValueError("of ada@example.org"), first=3)
        other = letters(topic, KeyError("x"), first=4, at=NOW - timedelta(hours=1))
        found = get()

        assert (found["total"], found["partly"]) == (4, False)
        first, second = found["groups"]
        assert (first["topic"], first["group"], first["reason"]) == ("user.created", "orders", "handler")
        assert (first["error_type"], first["count"], first["error"]) == ("ValueError", 3, "ValueError: of [hidden]")
        assert first["place"].endswith("in raised")
        assert (second["error_type"], second["count"]) == ("KeyError", 1)
        assert first["first_seen"] < second["last_seen"] < first["last_seen"]
        assert first["members"][0]["id"] == new[0]
        assert {one["id"] for group in found["groups"] for one in group["members"]} == {*old, *new, *other}

    def test_keep_their_id(self, topic):
        letters(topic, ValueError("1"))
        [before] = get()["groups"]
        letters(topic, ValueError("2"), first=2)
        [after] = get()["groups"]
        assert (before["id"], after["count"]) == (after["id"], 2)

    def test_keep_the_newest_members(self, topic):
        letters(topic, *(ValueError(str(n)) for n in range(150)))
        [newest] = letters(topic, ValueError("new"), first=500, at=NOW + timedelta(seconds=1))
        [group] = get(f"{LIST}?members=1")["groups"]
        assert (group["count"], [one["id"] for one in group["members"]]) == (151, [newest])
        [group] = get(f"{LIST}?members=0")["groups"]
        assert (group["count"], group["members"]) == (151, [])

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("topic=user.created", {0, 1}), ("topic=payment.completed", set()), ("topic=nothing", set()), ("reason=handler", {0, 1}),
            ("reason=crash", set()), ("error_type=KeyError", {1}), ("key=u1", {0}), ("id={0}", {0}), ("id={0},{1}", {0, 1}),
            ("group={group}", {0}), ("since=2026-01-01", {0, 1}), ("until=2020-01-01T00:00:00Z", set()), ("state=resolved", set()),
            ("state=all", {0, 1}), ("newest=100000", {0, 1}),
        ],
    )  # fmt: skip
    def test_filters(self, topic, query, found):
        ids = [*letters(topic, ValueError("1")), *letters(topic, KeyError("2"), first=2)]
        group = next(one["id"] for one in get()["groups"] if one["error_type"] == "ValueError")
        shown = get(f"{LIST}?{query.format(*ids, group=group)}")["groups"]
        wanted = {ids[n] for n in found}
        assert {one["id"] for group in shown for one in group["members"]} == wanted

    def test_foreign_records_are_listed_too(self, topic):
        producer = Producer(servers())
        dead = names.dead_letter_topic(topic)
        odd = [
            ("deadletter-at", b"\xff"),
            ("deadletter-error", b"\xff" * 50_000),
            ("deadletter-reason", b"r" * 9_000),
            ("x", None),
        ]
        for fields in ([], odd, [("deadletter-at", b"9999-12-31T23:59:59-23:59"), ("deadletter-group", b"")]):
            producer.produce(dead, b"\xff", b"\xff", headers=fields)
        producer.produce(dead, None, None)
        assert producer.flush(30) == 0
        found = get()
        assert found["total"] == 4
        assert all(len(one["reason"]) <= 300 for group in found["groups"] for one in group["members"])
        assert get(f"{LIST}?key=0xff")["total"] == 3
        for group in found["groups"]:
            for one in group["members"]:
                assert one["key"] in {"0xff", None}
                assert operator().get(f"{LIST}/{one['id']}?reveal=1").status_code == 200

    @pytest.mark.service("users")
    def test_a_service_that_consumes_nothing_has_none(self, settings):
        settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
        assert get() == {"groups": [], "total": 0, "partly": False}
        assert operator().get(f"{LIST}/x").status_code == 404
        assert post(REDRIVE, {"ids": ["x"]}).status_code == 404

    def test_without_a_broker_it_is_unavailable(self, settings):
        settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
        for answer in (operator().get(LIST), operator().get(f"{LIST}/x"), post(REDRIVE, {"ids": ["x"]})):
            assert (answer.status_code, answer["Content-Type"]) == (503, "application/problem+json")
            assert "Kafka does not respond" in answer.json()["detail"]

    def test_without_its_topic_it_is_unavailable(self, settings):
        settings.KAFKA_PREFIX = f"t-{uuid.uuid4().hex[:8]}."
        answer = operator().get(LIST)
        assert (answer.status_code, "manage.py topics" in answer.json()["detail"]) == (503, True)


class TestOne:
    def test_without_personal_data(self, topic):
        [one] = letters(topic, ValueError("of ada@example.org"))
        found = get(f"{LIST}/{one}")
        assert json.loads(found["payload"]["content"]) == USER | {"email": "[hidden]", "name": "[hidden]"}
        assert dict(found["headers"])["customer-name"] == "[hidden]"
        assert "in raised" in found["traceback"]
        assert "ada@" not in json.dumps(found)
        assert found["kept_at"]["topic"] == names.dead_letter_topic(topic)
        assert found["group"] == get()["groups"][0]["id"]

    def test_with_personal_data_which_is_logged(self, topic):
        [one] = letters(topic, ValueError())
        with capture_logs() as logs:
            found = get(f"{LIST}/{one}?reveal=1")
        assert json.loads(found["payload"]["content"]) == USER
        [line] = [line for line in logs if line["event"] == "personal data revealed"]
        assert (line["by"], line["deadletter_id"]) == (NAME, one)


class TestDecisions:
    def test_a_group_is_redriven_with_who_and_why(self, topic):
        ids = letters(topic, *(ValueError(str(n)) for n in range(5)))
        [other] = letters(topic, KeyError("x"), first=9)
        group = next(one["id"] for one in get()["groups"] if one["error_type"] == "ValueError")
        said = lines(post(REDRIVE, {"group": group, "why": "the handler is repaired"}))

        assert said[0]["total"] == 5
        last = said[-1]
        assert (last["done"], sorted(last["ids"]), last["refused"], last["finished"]) == (5, sorted(ids), {}, True)
        assert "error" not in last
        assert unresolved() == [other]
        assert dead_letters.redriven(topic) == dict.fromkeys(ids, 1)
        assert {r.by for r in Store(Patience(30)).resolutions().values()} == {NAME}
        shown = get(f"{LIST}?state=resolved")["groups"][0]["members"][0]["resolution"]
        assert (shown["action"], shown["by"], shown["why"], shown["edited"]) == (
            "redriven", NAME, "the handler is repaired", False,
        )  # fmt: skip

    def test_ids_are_discarded(self, topic):
        ids = letters(topic, ValueError("1"), ValueError("2"))
        with capture_logs() as logs:
            assert lines(post(DISCARD, {"ids": ids[:1], "why": "a test event"}))[-1]["done"] == 1
        assert unresolved() == ids[1:]
        assert dead_letters.everything(topic) == []
        [line] = [line for line in logs if line["event"] == "dead letter discarded"]
        assert (line["by"], line["why"]) == (NAME, "a test event")

    @pytest.mark.parametrize("path", [REDRIVE, DISCARD])
    def test_a_preview_decides_nothing(self, topic, path):
        ids = letters(topic, ValueError("1"), ValueError("2"))
        shown = post(path, {"ids": ids, "dry_run": True}).json()
        assert (shown["would"], shown["count"], {one["id"] for one in shown["results"]}) == (
            path.rpartition("/")[2],
            2,
            set(ids),
        )
        assert unresolved() == sorted(ids)
        assert dead_letters.everything(topic) == []

    @pytest.mark.parametrize("path", [REDRIVE, DISCARD])
    def test_a_group_up_to_its_preview(self, topic, path):
        letters(topic, *(ValueError(str(n)) for n in range(3)))
        group = {"group": get()["groups"][0]["id"]}
        preview = post(path, {**group, "dry_run": True}).json()
        later = letters(topic, *(ValueError(str(n)) for n in range(4)), first=4)
        assert post(path, {**group, "up_to": preview["up_to"], "dry_run": True}).json()["count"] == 3
        said = lines(post(path, {**group, "up_to": preview["up_to"]}))
        assert (said[0]["total"], said[-1]["done"]) == (3, 3)
        assert unresolved() == sorted(later)
        assert lines(post(path, {**group, "up_to": {}}))[-1]["done"] == 0

    def test_what_the_inbox_may_have_forgotten_needs_force(self, topic, settings):
        settings.INBOX_RETENTION_HOURS = 24
        [old] = letters(topic, ValueError("1"), at=NOW - timedelta(hours=25))
        assert post(REDRIVE, {"ids": [old], "dry_run": True}).json()["forgotten"] == [old]
        last = lines(post(REDRIVE, {"ids": [old]}))[-1]
        assert (last["done"], last["forgotten"]) == (0, [old])
        assert lines(post(REDRIVE, {"ids": [old], "force": True}))[-1]["done"] == 1

    def test_a_limit(self, topic):
        ids = letters(topic, *(ValueError(str(n)) for n in range(5)))
        said = lines(post(REDRIVE, {"ids": ids, "limit": 2}))
        assert (said[0]["total"], said[-1]["done"], len(unresolved())) == (2, 2, 3)

    def test_ends_when_the_client_is_gone_and_another_run_continues(self, topic):
        ids = letters(topic, *(ValueError(str(n)) for n in range(40)))
        answer = post(REDRIVE, {"ids": ids, "rate": 2})
        next(answer.streaming_content)
        assert post(REDRIVE, {"ids": ids}).status_code == 409, "one run at a time"
        eventually(lambda: json.loads(next(answer.streaming_content))["done"] > 0)
        answer.close()
        eventually(lambda: not decisions._running.locked())
        left = unresolved()
        assert 0 < len(left) < 40
        assert lines(post(REDRIVE, {"ids": ids}))[-1]["done"] == len(left)
        assert dead_letters.redriven(topic) == dict.fromkeys(ids, 1)

    def test_a_broker_that_disappears_is_the_last_line(self, topic, settings, monkeypatch):
        ids = letters(topic, ValueError("1"))
        count = decisions._count

        def then_away(*arguments):
            found = count(*arguments)
            settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
            return found

        monkeypatch.setattr(decisions, "_count", then_away)
        monkeypatch.setattr(decisions, "SILENCE_SECONDS", 2.0)
        last = lines(post(REDRIVE, {"ids": ids}))[-1]
        assert (last["done"], last["finished"]) == (0, True)
        assert last["error"]
        assert not decisions._running.locked()

    @pytest.mark.parametrize(
        "content",
        [
            {}, [], None, "x", 7, {"ids": []}, {"ids": ["x"], "group": "0" * 16}, {"group": "x"}, {"ids": ["a b"]}, {"ids": ["x" * 129]},
            {"ids": [1.5]}, {"ids": [{}]}, {"ids": {"a": 1}}, {"ids": ["x"] * 1001}, {"ids": ["x"], "rate": 0}, {"ids": ["x"], "rate": 1e300},
            {"ids": ["x"], "limit": 0}, {"ids": ["x"], "limit": 1.5}, {"ids": ["x"], "why": "a\nb"},
            {"ids": ["x"], "why": 5}, {"ids": ["x"], "why": "x" * 501}, {"ids": ["x"], "dry_run": "maybe"}, {"ids": ["x"], "all": True},
            {"ids": ["x"], "up_to": []}, {"ids": ["x"], "up_to": {"t": 1}}, {"ids": ["x"], "up_to": {"t": {"0": -1}}},
            {"ids": ["x"], "up_to": {"t": {"²": 1}}}, {"ids": ["x"], "up_to": {"t": {"-1": 1}}},
        ],
    )  # fmt: skip
    def test_an_invalid_decision_is_explained(self, topic, content):
        answer = post(REDRIVE, content)
        assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json"), answer.content


class TestEdits:
    BROKEN = json.dumps(USER | {"userId": None}).encode()

    def test_keep_the_original_and_state_who_and_why(self, topic):
        [one] = letters(topic, ValueError("1"), payload=self.BROKEN)
        better = json.dumps(USER)
        with capture_logs() as logs:
            answer = post(f"{LIST}/{one}/edit", {"payload": better, "why": "the user's id was missing"})
        assert (answer.status_code, answer.json()["ids"]) == (200, [one])

        [sent] = dead_letters.everything(topic)
        assert (sent.key(), sent.value()) == (b"u1", better.encode())
        assert headers(sent)["ce_id"] == "event"
        assert headers(sent)["deadletter-redriven"] == one
        assert headers(sent)["deadletter-edited-by"] == NAME
        kept = get(f"{LIST}/{one}?reveal=1")
        assert kept["payload"]["content"] == self.BROKEN.decode()
        assert (kept["resolution"]["edited"], kept["resolution"]["why"]) == (True, "the user's id was missing")
        assert unresolved() == []
        [line] = [line for line in logs if line["event"] == "dead letter redriven"]
        assert (line["by"], line["edited"], line["why"]) == (NAME, True, "the user's id was missing")
        assert post(f"{LIST}/{one}/edit", {"payload": better, "why": "again"}).status_code == 409

    def test_a_dead_letter_of_an_edited_event_says_so(self, topic):
        sent = Record(topic, 0, 1, b"k", b"{}", [("deadletter-edited-by", b"ada"), ("deadletter-redriven", b"d1")], 0)
        [one] = dead_letters.write(names.dead_letter_topic(topic), FailedRecord(sent, ValueError("again"), 1))
        found = get(f"{LIST}/{one}")
        assert (found["edited_by"], found["redriven_before"]) == ("ada", "d1")

    def test_what_the_service_could_not_read_is_rejected(self, topic, settings):
        [one] = letters(topic, ValueError("1"))
        for payload in ("", "{", "[]", "null", '{"userId": null}', json.dumps(USER | {"userId": 7, "email": 5})):
            answer = post(f"{LIST}/{one}/edit", {"payload": payload, "why": "w"})
            assert (answer.status_code, answer["Content-Type"]) == (422, "application/problem+json"), payload
        settings.KAFKA_MAX_MESSAGE_BYTES = 100
        answer = post(f"{LIST}/{one}/edit", {"payload": json.dumps(USER), "why": "w"})
        assert (answer.status_code, "KAFKA_MAX_MESSAGE_BYTES" in answer.json()["detail"]) == (422, True)
        assert unresolved() == [one]

    def test_a_preview_decides_nothing(self, topic):
        [one] = letters(topic, ValueError("1"))
        assert post(f"{LIST}/{one}/edit", {"payload": json.dumps(USER), "why": "w", "dry_run": True}).status_code == 200
        assert unresolved() == [one]

    def test_needs_a_reason_and_a_dead_letter(self, topic):
        [one] = letters(topic, ValueError("1"))
        for content in (
            {"payload": "{}"},
            {"payload": "{}", "why": ""},
            {"why": "w"},
            {"payload": "\0", "why": "w"},
            [],
        ):
            assert post(f"{LIST}/{one}/edit", content).status_code == 400
        assert post(f"{LIST}/nobody/edit", {"payload": "{}", "why": "w"}).status_code == 404


class TestWhoMay:
    @pytest.mark.parametrize(
        ("path", "needed"),
        [
            (REDRIVE, {"view_deadletter", "redrive_deadletter"}),
            (DISCARD, {"view_deadletter", "discard_deadletter"}),
            (f"{LIST}/x/edit", {"view_deadletter", "redrive_deadletter", "edit_deadletter"}),
            ("/staff/outbox/retry", {"view_outboxevent", "retry_outboxevent"}),
            ("/staff/outbox/discard", {"view_outboxevent", "discard_outboxevent"}),
        ],
    )
    def test_each_decision_needs_its_permissions(self, path, needed):
        everything = {
            "view_deadletter", "redrive_deadletter", "discard_deadletter", "edit_deadletter", "reveal_deadletter",
            "view_outboxevent", "retry_outboxevent", "discard_outboxevent", "view_story",
        }  # fmt: skip
        client = person(*needed)
        assert post(path, {}, client).status_code == 400, "permitted, but nothing was chosen"
        user = client.session["_auth_user_id"]
        for missing in needed:
            Person.objects.get(pk=user).user_permissions.set(
                Permission.objects.filter(codename__in=everything - {missing})
            )
            assert post(path, {}, client).status_code == 403, missing

    @pytest.mark.parametrize("path", [LIST, f"{LIST}/x", f"{LIST}/x?reveal=1"])
    def test_reading_needs_permissions(self, path, topic):
        assert person("view_deadletter").get(path).status_code == (
            403 if "reveal" in path else 200 if path == LIST else 404
        )

    @pytest.mark.parametrize("path", [REDRIVE, DISCARD, f"{LIST}/x/edit", "/staff/outbox/retry"])
    def test_a_session_needs_its_csrf_token(self, path):
        assert post(path, {}, person(superuser=True, csrf=True)).status_code == 403

    @pytest.mark.parametrize("path", [REDRIVE, DISCARD, f"{LIST}/x/edit", "/staff/outbox/retry"])
    def test_another_site_cannot_use_the_session(self, path):
        answer = person(superuser=True).post(
            path, "{}", content_type="application/json", headers={"Sec-Fetch-Site": "cross-site"}
        )
        assert answer.status_code == 403


class TestParkedRows:
    @pytest.fixture
    def row(self) -> OutboxEvent:
        return OutboxEvent.objects.create(
            event_id=uuid.uuid4(), topic="t", key="k", payload=b"{}", headers=[], request_id="r", parked_at=NOW, parked_reason="too large"
        )  # fmt: skip

    def test_are_retried(self, row):
        with capture_logs() as logs:
            answer = post("/staff/outbox/retry", {"positions": [row.position, 0], "why": "the limit was raised"})
        assert answer.json() == {"done": [row.position], "not_parked": [0]}
        row.refresh_from_db()
        assert (row.parked_at, row.discarded_at) == (None, None)
        [line] = [line for line in logs if line["event"] == "parked outbox row retried"]
        assert (line["by"], line["why"]) == (NAME, "the limit was raised")

    def test_are_discarded(self, row):
        assert post("/staff/outbox/discard", {"positions": [row.position]}).json()["done"] == [row.position]
        row.refresh_from_db()
        assert row.discarded_by == NAME
        assert post("/staff/outbox/discard", {"positions": [row.position]}).json()["not_parked"] == [row.position]

    @pytest.mark.parametrize("content", [{}, [], {"positions": []}, {"positions": ["1"]}, {"positions": [-1]}, {"positions": [2**63]},
                                         {"positions": [True]}, {"positions": 1}, {"positions": [1], "x": 1}, {"positions": [1e400]}])  # fmt: skip
    def test_an_invalid_decision_is_explained(self, content):
        answer = post("/staff/outbox/retry", content)
        assert answer.status_code == 400

    @pytest.mark.service("payments")
    def test_a_service_without_a_database_has_none(self):
        assert post("/staff/outbox/retry", {"positions": [1]}).status_code == 404


def test_runs_in_threads_of_one_process_take_turns(topic):
    ids = letters(topic, *(ValueError(str(n)) for n in range(20)))

    def run(_: int) -> tuple[int, bytes]:
        answer = post(REDRIVE, {"ids": ids, "rate": 50})
        return answer.status_code, b"".join(answer.streaming_content) if answer.streaming else answer.content

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(run, range(4)))
    assert {status for status, _ in answers} <= {200, 409}, answers
    assert dead_letters.redriven(topic) == dict.fromkeys(ids, 1)
