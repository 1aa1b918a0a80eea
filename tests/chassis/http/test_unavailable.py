"""While the database does not respond, each line about a request says which request, and which trace, it belongs to."""

import httpx2
import psycopg
import pytest

from tests.json_lines import JsonLines
from tests.serving import database, gunicorn
from tests.waiting import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PATHS = {"api": "/users", "page": "/admin/"}
TRACING = [{}, {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": "always_off"}]


@pytest.fixture(scope="module", params=TRACING, ids=["no exporter", "not sampled"])
def locked(request):
    """A service whose tables are locked."""
    variables = {"LOG_FORMAT": "json", "DATABASE_STATEMENT_TIMEOUT_SECONDS": "0.5", **request.param}
    with (
        database("users") as environment,
        gunicorn("users", {**environment, **variables}) as served,
        psycopg.connect(environment["USERS_DATABASE_URL"]) as holder,
    ):
        holder.execute("LOCK TABLE users, django_session IN ACCESS EXCLUSIVE MODE")
        yield served


@pytest.mark.parametrize("kind", PATHS)
def test_lines_of_a_503_have_both_ids(locked, kind):
    headers = {
        "X-Request-Id": f"lost-{kind}",
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-00",
        "Cookie": f"sessionid={'a' * 32}",
    }
    response = httpx2.get(locked.url + PATHS[kind], headers=headers, timeout=60)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")

    written = JsonLines(locked.child.log)

    def lines():
        found = [line for line in written.read() if line.get("request_id") == f"lost-{kind}"]
        return found if any(line["logger"] == "access" for line in found) else []

    found = eventually(lines)
    assert {line["event"] for line in found} == {"database unavailable", "request"}
    assert {line["trace_id"] for line in found} == {TRACE}
