"""Personal data is in the databases and the events only: in no log of a process or engine, and in no span."""

import uuid
from pathlib import Path

import pytest

from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

SECONDS = "1"


@pytest.fixture
def hasty(system):
    """The system, with users that gives a statement up after a second."""
    system.start("users", DATABASE_STATEMENT_TIMEOUT_SECONDS=SECONDS)
    return system


class Person:
    """Somebody whose data is found wherever it is written."""

    def __init__(self, statuses):
        self.marks = [f"{kind}{uuid.uuid4().hex[:12]}" for kind in ("mail", "name", "query", "agent", "else")]
        self.mail, self.name, self.query, self.agent, self.other = self.marks
        self.statuses = statuses

    def body(self, **changes):
        return {"email": f"{self.mail}@example.org", "name": f"Ada {self.name}", **changes}

    def send(self, system, method, path, expected, **body):
        headers = {
            "User-Agent": self.agent,
            "Referer": f"http://localhost/?{self.query}",
            "traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01",
            "tracestate": f"v={self.other}",
        }
        answer = system.client.request(method, f"{path}?x={self.query}", json=self.body(**body), headers=headers)
        assert answer.status_code == expected, answer.text
        self.statuses.add(answer.status_code)
        return answer


def test_no_personal_data_is_in_any_log_or_span(hasty):
    system, statuses = hasty, set()
    person = Person(statuses)
    made = person.send(system, "POST", "/api/users", 201).json()
    other = person.send(system, "POST", "/api/users", 201, email=f"{person.other}@example.org").json()
    person.send(system, "POST", "/api/users", 409)
    for method in ("PUT", "PATCH"):
        person.send(system, method, f"/api/users/{other['id']}", 409)
        person.send(system, method, f"/api/users/{made['id']}", 200)
    person.send(system, "POST", "/api/users", 400, email=[f"{person.mail}@example.org"])
    person.send(system, "POST", "/api/users", 400, email=f"{person.mail}@@example.org")
    person.send(system, "GET", "/api/users", 200)
    for segment in (person.name, f"{person.mail}%40example.org"):
        person.send(system, "GET", f"/api/users/{segment}", 404)
        person.send(system, "GET", f"/api/{segment}", 404)
    _with_a_check_that_fails(system, person)
    _with_a_table_that_is_locked(system, person)
    assert statuses == {200, 201, 400, 404, 409, 500, 503}
    # The spans of the last requests, and the event's way through orders and payments.
    eventually(
        lambda: system.rows("orderdb", "SELECT 1 FROM orders WHERE user_id = %s AND status <> 'pending'", made["id"])
    )
    eventually(lambda: any("context" in line for line in system["users"].written()), what="a span of users")

    assert found(system, person.marks) == []


def _with_a_check_that_fails(system, person):
    with system.engines.postgres._connect("userdb") as admin:
        admin.execute("ALTER TABLE users ADD CONSTRAINT test_nobody CHECK (name = '') NOT VALID")
        try:
            person.send(system, "POST", "/api/users", 500, email=f"{person.mail}-500@example.org")
        finally:
            admin.execute("ALTER TABLE users DROP CONSTRAINT test_nobody")


def _with_a_table_that_is_locked(system, person):
    with system.database("userdb") as holder, holder.transaction():
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        person.send(system, "POST", "/api/users", 503, email=f"{person.mail}-503@example.org")


def found(system, marks):
    """Where one of these texts stands: (file, line)."""
    logs = [member.child.log for member in system.members.values()]
    engines = [system.engines.postgres.folder / "log", *Path(system.engines.postgres.folder).glob("*.log")]
    kafka = [path for member in system.engines.kafka.members for path in [member.child.log] if path.exists()]
    assert all(path.exists() for path in [*logs, engines[0]])
    return [
        (path.name, mark[:5], line[max(0, line.index(mark) - 80) : line.index(mark) + 40])
        for path in {*logs, *engines, *kafka}
        for line in path.read_text(errors="replace").splitlines()
        for mark in marks
        if mark in line
    ]
