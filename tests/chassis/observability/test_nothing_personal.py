"""Data in any part of a request is in no log line and no span of a real process."""

import json
import sys

import httpx2
import psycopg
import pytest

from tests.chassis.admin.test_strange_queries import ROOT, Admin
from tests.serving import database, gunicorn, run

MARK = "Lovelace"
HEADERS = {
    "User-Agent": MARK, "Referer": f"http://localhost/{MARK}", "Cookie": f"a={MARK}", "Authorization": f"Bearer {MARK}",
    "baggage": f"name={MARK}", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": f"v={MARK}",
}  # fmt: skip
QUERIES = {
    "users/user": [
        f"q={MARK}", f"created_at__year={MARK}", f"id__in={MARK}", f"_to_field={MARK}", f"email__regex={MARK}(", f"name={MARK}%00",
        f"name__lt={MARK}", f"{MARK}__x=1",
    ],
    "messaging/outboxevent": [f"event_id={MARK}", f"position__lt={MARK}", f"headers__{MARK}=1", f"headers__contains={MARK}"],
}  # fmt: skip


@pytest.fixture(scope="module")
def served():
    with database("users") as environment:
        command = [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", ROOT[0], "--email", ""]
        run(command, {**environment, "DJANGO_SUPERUSER_PASSWORD": ROOT[1]})
        traced = {**environment, "OTEL_TRACES_EXPORTER": "console", "DATABASE_STATEMENT_TIMEOUT_SECONDS": "0.5"}
        with gunicorn("users", traced) as served:
            yield served, environment["USERS_DATABASE_URL"]


def test_request_data_is_in_no_log_line_and_no_span(served):
    served, database_url = served
    with httpx2.Client(base_url=served.url, headers=HEADERS) as client:
        statuses = {*paths(client), *bodies(client), *failures(client, database_url)}
    admin = Admin(served.url)
    for where, queries in QUERIES.items():
        statuses |= {admin.get(f"/admin/{where}/?{query}")[0] for query in queries}
        statuses.add(admin.get(f"/admin/{where}/{MARK}/change/")[0])

    assert statuses == {200, 201, 302, 400, 404, 405, 409, 500, 503}
    lines = served.child.log.read_text(errors="replace").splitlines()
    assert [line for line in lines if MARK.lower() in line.lower()] == []
    spans = [json.loads(line) for line in lines if line.startswith('{"name"')]
    errors = {span["status"]["description"].partition(":")[0] for span in spans if "description" in span["status"]}
    assert {"DataError", "DisallowedModelAdminToField"} <= errors
    # The states of PostgreSQL: a check is violated, a statement is cancelled.
    assert {"23514", "57014"} <= {span["attributes"].get("db.response.status_code") for span in spans}


def paths(client):
    for path in (
        f"/users/{MARK}",
        f"/users/{MARK}%40example.org",
        f"/{MARK}/x?{MARK}=1",
        f"/users?cursor={MARK}&limit={MARK}",
    ):
        yield client.get(path).status_code
    yield client.request(MARK.upper(), "/users").status_code
    yield client.get("/users", headers={"Host": f"{MARK}.example"}).status_code


def bodies(client):
    body = {"email": f"{MARK}@example.org", "name": f"Ada {MARK}"}
    for changes in ({}, {}, {"email": MARK}, {"email": [MARK]}, {"name": f"{MARK}\0"}):
        yield client.post("/users", json={**body, **changes}).status_code
    yield client.post("/users", content=f'{{"email": {MARK}', headers={"Content-Type": "application/json"}).status_code


def failures(client, database_url):
    body = {"email": f"other-{MARK}@example.org", "name": f"Ada {MARK}"}
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("TRUNCATE users")
        for change in (
            "ADD CONSTRAINT nobody CHECK (name = '')",
            "ALTER name TYPE varchar(3)",
            "ALTER name TYPE int USING 1",
        ):
            admin.execute(f"ALTER TABLE users {change}")
            yield client.post("/users", json=body).status_code
            admin.execute("ALTER TABLE users DROP CONSTRAINT IF EXISTS nobody, ALTER name TYPE varchar(200)")
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        yield client.post("/users", json=body).status_code
