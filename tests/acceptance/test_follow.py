"""`manage.py story` on the running system: it shows every step, and says where a story stands and why."""

import json
import re
import sys
import uuid

import pytest

from embedded.system import ROOT
from tests.acceptance.faults import faults
from tests.acceptance.harness import SECRET_KEY
from tests.acceptance.ledger import user_created, wire
from tests.forks.completed import completed
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

HEALTHY = [
    ("users", "user created"),
    ("users", "wrote user.created to the outbox"),
    ("users", "sent user.created"),
    ("orders", "handled user.created"),
    ("orders", "order pending"),
    ("orders", "wrote order.created to the outbox"),
    ("orders", "sent order.created"),
    ("payments", "handled order.created"),
    ("payments", "published payment.completed"),
    ("orders", "handled payment.completed"),
]


def run(system, *arguments: str) -> tuple[int, str, str]:
    """The command as on an operator's machine: with the addresses of all services, and in production's log format."""
    variables = {
        "ENVIRONMENT": "development", "LOG_FORMAT": "json", "SECRET_KEY": SECRET_KEY, "PATH": "/usr/bin:/bin",
        **system.addresses,
    }  # fmt: skip
    argv = [sys.executable, "manage.py", "story", "--logs", str(system.logs), *arguments]
    return completed(argv, cwd=ROOT, env=variables, within=180)


def told(system, id_: str) -> dict:
    status, out, err = run(system, id_, "--json")
    assert status == 0, err
    return json.loads(out)


def new_user(system) -> tuple[dict, str, str]:
    """A new user, and the ids of the request and of its trace."""
    request_id, trace_id = f"follow-{uuid.uuid4()}", uuid.uuid4().hex
    answer = system.client.post(
        "/api/users",
        json={"email": f"{request_id}@example.org", "name": "Ada Lovelace"},
        headers={"X-Request-Id": request_id, "traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01"},
    )
    assert answer.status_code == 201
    return answer.json(), request_id, trace_id


def order_of(system, user_id: str, *, settled: bool = True) -> dict:
    def find():
        orders = system.client.get("/api/orders", params={"userId": user_id}).json()["results"]
        return orders[0] if orders and (orders[0]["status"] != "pending" or not settled) else None

    return eventually(find, what="the order")


@pytest.fixture(scope="module")
def ids(harness):
    """The ids of a settled story."""
    harness.restore()
    user, request_id, trace_id = new_user(harness)
    order = order_of(harness, user["id"])
    return {"user": user["id"], "order": order["id"], "request": request_id, "trace": trace_id, "is": order["status"]}


class TestSettled:
    @pytest.mark.parametrize("by", ["order", "user", "request", "trace"])
    def test_every_id_leads_to_the_whole_story(self, system, ids, by):
        story = eventually(lambda: (found := told(system, ids[by]))["state"] == "settled" and found)

        steps = [(step["service"], step["what"]) for step in story["steps"] if not step["where"].startswith("log of")]
        assert steps == [*HEALTHY, ("orders", f"order {ids['is']}")]
        assert f"order {ids['order']} is {ids['is']}" in story["reason"]
        assert (story["request_ids"], story["trace_ids"]) == ([ids["request"]], [ids["trace"]])
        assert story["gaps"] == story["also"] == []
        first = story["steps"][0]
        assert (first["service"], first["what"]) == ("gateway", "POST /api/users → 201")
        sent = [step["where"] for step in story["steps"] if step["what"].startswith("sent ")]
        assert all("at offset" in where and "outbox row" in where for where in sent)

    def test_people_read_a_line_per_step_and_a_sentence(self, system, ids):
        status, out, err = run(system, ids["order"])
        lines = out.splitlines()
        assert (status, err) == (0, "")
        assert [line for line in lines if "orders" in line and "handled user.created" in line and " s  " in line]
        assert lines[-1].startswith(f"settled: order {ids['order']} is {ids['is']} after ")
        assert "example.org" not in out
        assert "Ada" not in out

    def test_one_service_tells_its_own_part(self, system, ids):
        status, said = system.manage("orders", "story", ids["order"], "--json", "--logs", "/nowhere")
        story = json.loads(said.splitlines()[-1])
        assert status == 0
        assert {step["service"] for step in story["steps"]} <= {"users", "orders", "payments"}
        assert ("orders", "handled user.created") in [(step["service"], step["what"]) for step in story["steps"]]


class TestUnknown:
    @pytest.mark.parametrize("id_", ["1c7e3c50-5c64-4d1d-8f0a-0123456789ab", "f" * 32, "nobody"])
    def test_an_unknown_id(self, system, id_):
        status, out, err = run(system, id_)
        assert (status, out) == (1, "")
        assert f"nothing is known about {id_}" in err

    @pytest.mark.parametrize(
        "id_", ["a b", "'; DROP TABLE outbox; --", "x\x1b[31m", "ä", "a" * 129, "%", "joe@example.org"]
    )
    def test_a_hostile_id_is_not_an_id(self, system, id_):
        status, out, err = run(system, "--", id_)
        assert (status, out) == (1, "")
        assert err == (
            "manage.py story: An id is 1 to 128 letters, digits or `._:-`: that of an order, a user, a request or a trace.\n"
        )

    def test_none(self, system):
        assert run(system)[0] == 2


def test_a_stopped_relay(system):
    system.end(["users-relay"])
    user, _, _ = new_user(system)
    story = told(system, user["id"])
    assert story["state"] == "on its way"
    assert "user.created is on its way: the relay has not sent it (outbox row " in story["reason"]


def test_a_stopped_consumer(system):
    system.end(["payments-consume"])
    user, _, _ = new_user(system)
    order = order_of(system, user["id"], settled=False)
    story = eventually(lambda: (found := told(system, order["id"]))["state"] == "stuck" and found)
    assert "no consumer of payments is running" in story["reason"]
    assert story["remedy"] == "start manage.py consume --settings=settings.payments"


def test_a_dead_letter(system, topics):
    system.start("orders-consume", RETRY_ATTEMPTS="2", RETRY_BASE_SECONDS="0.05")
    with faults(system) as fault:
        bad, trace_id = str(uuid.uuid4()), uuid.uuid4().hex
        fault.refuse(bad)
        event = user_created(bad)
        topic, key, value, headers = wire(event)
        traced = [(name, text) for name, text in headers if name != "traceparent"]
        topics.send(topic, key, value, [*traced, ("traceparent", f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01".encode())])
        eventually(lambda: topics.dead_letters("user.created", "orders", bad.encode()))
        story = told(system, bad)
    about = system["orders-consume"].logged(key=bad)
    assert {line["event"] for line in about} == {"event failed, will try again", "event dead-lettered"}
    assert {(line["request_id"], line["trace_id"]) for line in about} == {(event.request_id, trace_id)}
    assert told(system, trace_id)["state"] == "stuck"
    assert story["state"] == "stuck"
    assert "orders dead-lettered user.created (attempt 2, handler: " in story["reason"]
    assert "manage.py deadletters redrive --id " in story["remedy"]
    assert story["runbook"] == "docs/runbook.md#dead-letters"
    assert [step["what"] for step in story["steps"] if step["what"].startswith("event failed")]

    letter = story["remedy"].partition("--id ")[2].split()[0]
    status, said = system.manage("orders", "deadletters", "redrive", "--id", letter)
    assert status == 0, said
    story = eventually(lambda: (found := told(system, bad))["state"] == "settled" and found)
    assert [step["what"] for step in story["steps"] if step["what"].startswith("dead letter redriven by ")]
    system.restore()


def test_an_event_behind_one_that_fails(system, topics):
    system.start("orders-consume", RETRY_ATTEMPTS="100", RETRY_BASE_SECONDS="20", RETRY_CAP_SECONDS="60")
    bad = str(uuid.uuid4())
    with faults(system) as fault:
        fault.refuse(bad)
        first, second = user_created(bad), user_created(bad)
        topics.send(*wire(first))
        topics.send(*wire(second))
        eventually(lambda: system["orders-consume"].logged("event failed, will try again", key=bad))
        story = told(system, bad)
        assert story["state"] == "held"
        assert f"user.created is held behind event {first.event_id} of the same key" in story["reason"]
        assert re.search(r"failed (once|\d+ times) \(.*\), next try in \d+ s", story["reason"])
        assert any(one.startswith("retried: orders fails to handle user.created") for one in story["also"])
    system.restore()


def test_a_missing_topic(system):
    system.end(["users-relay"])
    user, _, _ = new_user(system)
    with system.database("userdb") as connection:
        connection.execute("UPDATE outbox SET topic = 'missing.topic' WHERE key = %s", [user["id"]])
    try:
        system.spawn("users-relay")
        story = told(system, user["id"])
    finally:
        system.end(["users-relay"])  # it waits for the topic, whether or not a row does
        with system.database("userdb") as connection:
            connection.execute("DELETE FROM outbox WHERE key = %s", [user["id"]])
    assert story["state"] in {"on its way", "stuck"}  # it is stuck after five seconds
    assert "missing.topic is on its way: the relay has not sent it (outbox row " in story["reason"]
    assert "topic missing" in story["reason"]


def test_kafka_that_does_not_answer(system, kafka):
    user, _, _ = new_user(system)
    order_of(system, user["id"])
    kafka.stop()
    story = told(system, user["id"])
    assert any("the topics cannot be read" in gap for gap in story["gaps"])
    assert ("users", "sent user.created") in [(step["service"], step["what"]) for step in story["steps"]]
