"""The staff API of real processes: any query and any body, a service without sessions, and the gateway in front."""

import http.client
import json
import os
import sys
import uuid
from urllib.parse import quote, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.chassis.support import dead_letters
from tests.serving import _process, database, gateway, gunicorn, run
from tests.waiting import eventually

TOKEN = "an-operator-token-of-the-tests-0123456789"
PAGES = {
    "story": ["ids", "keys", "request_ids", "trace_ids", "event_ids", "since"],
    "outbox": ["state", "topic", "key", "request_id", "event_id", "before", "limit"],
    "outbox/1": ["reveal"],
    "inbox": ["topic", "key", "request_id", "event_id", "before", "limit"],
    "dead-letters": [
        "state",
        "topic",
        "reason",
        "error_type",
        "key",
        "id",
        "group",
        "since",
        "until",
        "newest",
        "members",
    ],
    "dead-letters/x": ["reveal"],
    "info": [],
    "settings": [],
}
DECISIONS = {
    "dead-letters/redrive": ["ids", "group", "why", "rate", "limit", "force", "dry_run"],
    "dead-letters/x/edit": ["payload", "why", "force", "dry_run"],
    "outbox/retry": ["positions", "why"],
    "outbox/discard": ["positions", "why"],
}
TEXTS = [
    "", "0", "1", "-1", "9223372036854775807", "9223372036854775808", "9" * 5000, "1e400", "NaN", "\0", "a\0b", "(", "%", "'", "\\", "{}",
    "[]", "unsent", "sent", "parked", "all", "true", "é", "\ud800", "\u202e", "2026-11-26", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "2026-13-45", "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "x" * 300, "infinity", "0-0", "1764486000000000-0",
    "99999999999999999-9999999", "0" * 16, "user.created", "a,b,,c", ",",
]  # fmt: skip
JSON_BODY = {"Content-Type": "application/json"}
VALUES = st.one_of(st.sampled_from(TEXTS), st.text(max_size=8))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | VALUES.map(lambda text: text.encode("utf-8", "replace").decode()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def ask(url: str, method: str, path: str, body: bytes | None = None, **more: str) -> tuple[int, str, bytes]:
    """Status, content type and body of a response; each request on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", "X-Operator": "ada", **more})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or "", answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def orders():
    """Orders with topics of its own. Yields its URL and the topic of its dead letters."""
    with database("orders") as environment:
        prefix = f"t-{uuid.uuid4().hex[:8]}."
        environment |= {"OPERATOR_TOKEN": TOKEN, "KAFKA_PREFIX": prefix, "WEB_THREADS": "4"}
        for service in ("users", "payments", "orders"):
            run([sys.executable, "manage.py", "topics", f"--settings=settings.{service}"], environment)
        with gunicorn("orders", environment) as served:
            yield served.url, f"{prefix}user.created"


@pytest.fixture(scope="module")
def payments():
    """Payments, which has no database, on port of its own. Yields its URL and the topic that it consumes."""
    prefix = f"t-{uuid.uuid4().hex[:8]}."
    environment = {
        **os.environ, "DJANGO_SETTINGS_MODULE": "settings.payments", "ENVIRONMENT": "development", "OPERATOR_TOKEN": TOKEN,
        "KAFKA_PREFIX": prefix,
    }  # fmt: skip
    for service in ("orders", "payments"):
        run([sys.executable, "manage.py", "topics", f"--settings=settings.{service}"], environment)
    argv = [sys.executable, "-m", "gunicorn", "payments.wsgi", "-c", "settings/gunicorn.py", "-b", "127.0.0.1:{port}"]
    with _process("payments", argv, "/health/live", environment) as served:
        yield served.url, f"{prefix}order.created"


def good(status: int, kind: str, body: bytes) -> bool:
    if status == 200:
        return kind in {"application/json", "application/x-ndjson"}
    return (
        status in {400, 404, 409, 413, 414, 415, 422}
        and kind == "application/problem+json"
        and json.loads(body)["status"] == status
    )


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(page=st.sampled_from(sorted(PAGES)), values=st.lists(VALUES, min_size=1, max_size=3), data=st.data())
def test_no_query_is_an_error(orders, page, values, data):
    names = [data.draw(st.sampled_from([*PAGES[page], "other"])) for _ in values]
    pairs = [(name, value.encode("utf-8", "surrogatepass")) for name, value in zip(names, values, strict=True)]
    answer = ask(orders[0], "GET", f"/staff/{page}?{urlencode(pairs)}")
    assert good(*answer), answer


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(page=st.sampled_from(["outbox", "dead-letters", "story"]), value=VALUES)
def test_no_id_is_an_error(orders, page, value):
    assume(value not in {"discard", "redrive", "republish", "retry"})  # paths of POSTs
    answer = ask(orders[0], "GET", f"/staff/{page}/{quote(value.encode('utf-8', 'surrogatepass'), safe='')}")
    assert good(*answer), answer


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(page=st.sampled_from(sorted(DECISIONS)), data=st.data())
def test_no_body_is_an_error(orders, page, data):
    content = data.draw(st.dictionaries(st.sampled_from(DECISIONS[page]), JSON, max_size=4) | JSON)
    answer = ask(
        orders[0], "POST", f"/staff/{page}", json.dumps(content).encode(), **{"Content-Type": "application/json"}
    )
    assert good(*answer), (content, answer)


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(page=st.sampled_from(sorted(DECISIONS)), body=st.binary(max_size=50), kind=st.sampled_from(["application/json", "text/plain", "x", "", "multipart/form-data"]))  # fmt: skip
def test_no_bytes_are_an_error(orders, page, body, kind):
    answer = ask(orders[0], "POST", f"/staff/{page}", body, **{"Content-Type": kind})
    assert good(*answer), answer


def test_a_large_body_is_too_large(orders):
    body = json.dumps({"payload": "x" * 3_000_000, "why": "w"}).encode()
    status, kind, _ = ask(orders[0], "POST", "/staff/dead-letters/x/edit", body, **JSON_BODY)
    assert (status, kind) == (413, "application/problem+json")


def test_a_client_that_goes_away_ends_its_run(orders):
    url, topic = orders
    value = b'{"userId": "u1", "email": "ada@example.org", "name": "Ada", "createdAt": "2026-11-30T07:00:00Z"}'
    ids = dead_letters.write(
        f"{topic}.orders.dlq", *(dead_letters.failed(topic, 100 + n, value=value) for n in range(30))
    )
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    body = json.dumps({"ids": ids, "rate": 1}).encode()
    kinds = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}", "X-Operator": "ada"}
    connection.request("POST", "/staff/dead-letters/redrive", body, kinds)
    answer = connection.getresponse()
    assert json.loads(answer.readline())["total"] == 30
    answer.close()
    connection.close()

    def again() -> bytes | None:
        status, _, body = ask(
            url, "POST", "/staff/dead-letters/redrive", json.dumps({"ids": ids}).encode(), **JSON_BODY
        )
        assert status in {200, 409}, body
        return body if status == 200 else None

    last = json.loads(eventually(again).splitlines()[-1])
    assert 0 < last["done"] <= 30
    assert dead_letters.redriven(topic) == dict.fromkeys(ids, 1)


class TestPayments:
    """It has neither a database nor sessions."""

    def test_its_dead_letters_are_read_from_its_own_topic_and_redriven(self, payments):
        url, topic = payments
        ids = dead_letters.write(f"{topic}.payments.dlq", *(dead_letters.failed(topic, n) for n in range(3)))
        [group] = json.loads(ask(url, "GET", "/staff/dead-letters")[2])["groups"]
        assert (group["count"], group["topic"]) == (3, "order.created")
        content = json.dumps({"group": group["id"], "why": "repaired"}).encode()
        status, kind, body = ask(
            url, "POST", "/staff/dead-letters/redrive", content, **{"Content-Type": "application/json"}
        )
        assert (status, kind) == (200, "application/x-ndjson")
        assert json.loads(body.splitlines()[-1])["done"] == 3
        assert dead_letters.redriven(topic) == dict.fromkeys(ids, 1)
        assert json.loads(ask(url, "GET", "/staff/dead-letters")[2])["total"] == 0

    def test_only_the_token_opens_it(self, payments):
        for more in (
            {"Authorization": ""},
            {"Authorization": "Bearer x"},
            {"Authorization": "", "Cookie": "sessionid=" + "a" * 32},
        ):
            assert ask(payments[0], "GET", "/staff/info", **more)[0] == 401


def test_the_gateway_leads_nowhere_near_it(orders):
    with gateway(orders=orders[0]) as served:
        assert ask(served.url, "GET", "/api/orders")[0] == 200
        for path in (
            "/staff/info", "/api/staff/info", "/api/orders/../staff/info", "/api/orders/%2e%2e/staff/info", "/api/orders/..%2fstaff/info",
            "//staff/info", "/api//staff/info", "/api/orders/..;/staff/info", "/api/orders/%252e%252e/staff/info", "/api/orders\\..\\staff/info",
        ):  # fmt: skip
            status, _, body = ask(served.url, "GET", path)
            assert status in {400, 404}, path
            assert b"handlers" not in body
