"""From a dead letter to the paid order: the handler is repaired, and an operator redrives with the real command."""

import json
import time
import uuid
from collections import Counter

import pytest

from tests.acceptance.faults import faults
from tests.acceptance.ledger import check, settle, user_created, wire
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

DEAD_LETTER_TOPIC = "user.created.orders.dlq"
LETTERS = 200


@pytest.fixture
def dead_lettered(system, topics):
    """Users whose welcome orders failed so often that their events are dead letters; the handler is mended since."""
    system.start(
        "orders-consume",
        RETRY_ATTEMPTS="2",
        RETRY_BASE_SECONDS="0.05",
        CONSUMER_BATCH_SIZE="50",
        CONSUMER_STOP_AFTER_KEYS="0",  # all events fail here: the consumer would stop the topic
    )
    prefix = uuid.uuid4().hex[:8]

    def fail(count: int) -> list[str]:
        users = [f"{prefix}-{number}" for number in range(count)]
        with faults(system) as fault:
            fault.refuse(f"{prefix}-%")
            for user in users:
                topics.send_later(*wire(user_created(user, request_id=f"req-{user}")))
            topics.flush()
            eventually(lambda: len(letters_of(topics, users)) == count, within=300, every=0.2)
            settle(system, topics, within=300)
        assert system.rows("orderdb", "SELECT 1 FROM orders WHERE user_id = ANY(%s)", users) == []
        return users

    return fail


def letters_of(topics, users: list[str]) -> list:
    """Their dead letters; what was decided about these stands on the same topic, under their ids."""
    keys = {user.encode() for user in users}
    return [record for record in topics.of(DEAD_LETTER_TOPIC) if record.key in keys]


def done(harness, *arguments: str) -> tuple[str, list[dict]]:
    """Run it to its end, which must be good. Returns what it printed, and what it logged."""
    status, out, err = harness.run("orders", "deadletters", *arguments)
    assert status == 0, err
    return out, logged(err)


def logged(err: str) -> list[dict]:
    return [json.loads(line) for line in err.splitlines() if line.startswith("{")]


def since(moment: float) -> list[str]:
    """Only the letters of this test."""
    return ["--since", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment - 1))]


def check_redriven_once(topics, users: list[str]) -> None:
    """Each of their events came once more, by a redrive, and behind each letter stands one decision."""
    keys = {user.encode() for user in users}
    back = [record for record in topics.of("user.created") if record.key in keys]
    letters = {one.header("deadletter-id"): one for one in letters_of(topics, users)}
    redriven = Counter(record.header("deadletter-redriven") for record in back)
    assert redriven.pop("") == len(users), "as they came first"
    assert redriven == dict.fromkeys(letters, 1)
    resolved = Counter(record.header("deadletter-resolves") for record in topics.of(DEAD_LETTER_TOPIC))
    assert {letter: resolved[letter] for letter in letters} == dict.fromkeys(letters, 1)


def test_an_operator_redrives_and_the_order_is_paid(system, topics, dead_lettered):
    began = time.time()
    [user, other] = users = dead_lettered(2)

    out, _ = done(system, "list", "--json", "--reason", "handler", *since(began))
    listed = {line["key"]: line for line in map(json.loads, out.splitlines())}
    assert set(listed) == set(users)
    letter = listed[user]
    assert (letter["attempts"], letter["request_id"]) == ("2", f"req-{user}")
    [record] = letters_of(topics, [user])
    assert letter["trace_id"] == record.header("traceId") != ""

    out, _ = done(system, "show", letter["id"])
    for text in (f"{user}@example.org", "no order for user", "handlers.py", letter["trace_id"], "Traceback"):
        assert text in out, text

    out, lines = done(system, "redrive", "--dry-run", *since(began))
    assert out.count("\n") == 2
    assert (lines, len(letters_of(topics, users))) == ([], 2)

    out, lines = done(system, "redrive", "--key", user, "--by", "ada", *since(began))
    assert out == "1 dead letters redriven\n"
    [line] = [line for line in lines if line["event"] == "dead letter redriven"]
    assert (line["by"], line["deadletter_id"], line["key"]) == ("ada", letter["id"], user)
    out, lines = done(system, "discard", "--key", other, "--by", "bob", *since(began))
    assert out == "1 dead letters discarded\n"
    assert [line["by"] for line in lines if line["event"] == "dead letter discarded"] == ["bob"]

    settle(system, topics)
    check(system, topics, [user], dead_lettered=True)
    assert system.rows("orderdb", "SELECT 1 FROM orders WHERE user_id = %s", other) == []
    out, _ = done(system, "list", "--json", "--resolved", *since(began))
    said = {line["key"]: line["resolution"] for line in map(json.loads, out.splitlines())}
    assert {key: (one["resolved"], one["by"]) for key, one in said.items()} == {
        user: ("redriven", "ada"),
        other: ("discarded", "bob"),
    }


def test_killed_and_rerun_each_is_redriven_once(system, topics, dead_lettered):
    began = time.time()
    users = dead_lettered(LETTERS)

    keys = {user.encode() for user in users}

    def back() -> int:
        mine = [record for record in topics.of("user.created") if record.key in keys]
        return sum(bool(record.header("deadletter-redriven")) for record in mine)

    rate = 40.0
    killed = system.command("orders", "deadletters", "redrive", "--rate", f"{rate:g}", *since(began))
    eventually(lambda: back() >= 20, within=60)
    eventually(lambda: back() >= 80, within=60)
    killed.kill()
    killed.communicate()
    eventually(lambda: topics.ends("user.created") == topics.ends("user.created", uncommitted=True), every=0.2)
    eventually(lambda: topics.caught_up("user.created"))
    before = back()
    assert before < LETTERS, "it was in the middle"
    at = sorted(
        record.produced_at
        for record in topics.of("user.created")
        if record.key in keys and record.header("deadletter-redriven")
    )
    assert 79 / (at[79] - at[0]) <= rate * 1.3, "the rate is kept"

    two = [system.command("orders", "deadletters", "redrive", "--by", name, *since(began)) for name in ("ada", "bob")]
    ended = [process.communicate(timeout=240) for process in two]
    assert [process.returncode for process in two] == [0, 0], ended
    assert sum(int(out.split()[0]) for out, _ in ended) == LETTERS - before
    for name, (out, err) in zip(("ada", "bob"), ended, strict=True):
        by = [line["by"] for line in logged(err) if line["event"] == "dead letter redriven"]
        assert by == [name] * int(out.split()[0])
    settle(system, topics, within=300)

    check(system, topics, users, dead_lettered=True)
    check_redriven_once(topics, users)
