"""A POST takes effect once: repeated, concurrent, and repeated after a crash."""

import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import psycopg
import pytest
from django.db import connections
from django.utils import timezone
from rest_framework.test import APIClient

from chassis.http import idempotency
from chassis.http.models import IdempotencyKey
from chassis.messaging.models import OutboxEvent
from chassis.outbox import retention
from tests.serving import DATABASES, database, gunicorn
from tests.waiting import eventually
from users import services
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"])

ADA = {"email": "ada@example.org", "name": "Ada"}


def post(body=ADA, key="key-1", **headers):
    client = APIClient(raise_request_exception=False)
    return client.post("/users", body, format="json", headers={"Idempotency-Key": key, **headers})


def test_the_first_response_is_replayed():
    first, second = post(), post()

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first["Location"] == second["Location"]
    assert ("Idempotency-Replayed" in first, second["Idempotency-Replayed"]) == (False, "true")
    assert User.objects.count() == OutboxEvent.objects.count() == 1


def test_also_after_the_user_has_changed():
    first = post()
    services.change_user(user_id=User.objects.get().id, name="Ada Lovelace")

    assert post().content == first.content


def test_the_same_key_for_something_else():
    post()

    for other in ({**ADA, "name": "Bob"}, {**ADA, "email": "bob@example.org"}, {}):
        answer = post(other)
        assert answer.status_code == 422
        assert answer["Content-Type"] == "application/problem+json"
    assert User.objects.count() == 1


def test_other_keys_are_other_requests():
    post()

    assert post(key="key-2").status_code == 409
    assert post({**ADA, "email": "bob@example.org"}, key="key-2").status_code == 201


def test_after_an_error_the_key_is_free():
    services.create_user(**ADA)
    assert post().status_code == 409
    assert post({"email": "nobody"}).status_code == 400
    assert not IdempotencyKey.objects.exists()

    services.delete_user(user_id=User.objects.get().id)

    assert post().status_code == 201


def test_without_a_key_nothing_is_remembered():
    APIClient().post("/users", ADA, format="json")

    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("key", ["x", "~" * 255, "7c9e6679-7425-40de-944b-e07fc1f90ae7", 'a"b\\c%s'])
def test_keys(key):
    assert post(key=key).status_code == 201
    assert IdempotencyKey.objects.get().key == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        "a b",
        "~" * 256,
        "é",
        "a\tb",
        "a,b",
        "a, b",
        '"a"b"',
        '"a',
        '""',
        '"' + "x" * 256 + '"',
        '"a","b"',
        '"\\n"',
    ],
)
def test_an_invalid_key(key):
    answer = post(key=key)

    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["Idempotency-Key"]
    assert not User.objects.exists()


@pytest.mark.parametrize(("quoted", "bare"), [('"key-1"', "key-1"), (r'"a\"b\\c"', r'a"b\c')])
def test_a_key_in_quotes_is_the_same_key(quoted, bare):
    assert [post(key=quoted).status_code, post(key=bare)["Idempotency-Replayed"]] == [201, "true"]
    assert IdempotencyKey.objects.get().key == bare


def test_a_quoted_key_may_contain_spaces_and_commas():
    assert post(key='"a, b"').status_code == 201


def test_the_charset_does_not_change_the_fingerprint():
    def send(content_type):
        return APIClient().post("/users", json.dumps(ADA), content_type=content_type, headers={"Idempotency-Key": "k"})

    assert send("application/json").status_code == 201
    for same in ("application/json; charset=utf-8", "Application/JSON;charset=UTF-8"):
        assert send(same)["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(("method", "body"), [("put", {**ADA, "name": "B"}), ("patch", {"name": "B"})])
def test_a_repeated_change_takes_effect_once(method, body):
    url = f"/users/{services.create_user(**ADA).id}"

    def send():
        return getattr(APIClient(), method)(url, body, format="json", headers={"Idempotency-Key": "k"})

    first = send()
    services.change_user(user_id=User.objects.get().id, name="C")
    second = send()

    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (200, 200, "true")
    assert first.content == second.content
    assert User.objects.get().name == "C"
    assert (
        getattr(APIClient(), method)(
            url, {**body, "name": "D"}, format="json", headers={"Idempotency-Key": "k"}
        ).status_code
        == 422
    )


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_a_concurrent_duplicate_waits_and_then_gets_a_conflict(settings):
    settings.IDEMPOTENCY_WAIT_SECONDS = 0.2
    with psycopg.connect(psycopg.conninfo.make_conninfo(**connection_parameters())) as first:
        first.execute("INSERT INTO idempotency_keys (key, fingerprint) VALUES ('key-1', '')")

        answer = post()

        assert answer.status_code == 409
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["Retry-After"] == "1"
        first.rollback()
    assert post().status_code == 201


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_only_the_duplicate_waits_by_that_limit():
    services.create_user(email="b@example.org", name="B")
    with connections["users"].cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)
    seen = []

    def look(**values):
        with connections["users"].cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            seen.append(cursor.fetchone()[0])
        return original(**values)

    original = services.create_user
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "create_user", look)
        assert post().status_code == 201
    assert seen == ["0"]


def connection_parameters():
    connections["users"].ensure_connection()
    known = connections["users"].get_connection_params()
    return {name: known[name] for name in ("host", "port", "user", "password", "dbname")}


def test_the_form_of_the_browsable_api_may_carry_one():
    def send():
        return APIClient().post(
            "/users", ADA, format="multipart", headers={"Accept": "text/html", "Idempotency-Key": "f"}
        )

    assert (send().status_code, send().status_code) == (201, 201)
    assert User.objects.count() == 1


@pytest.mark.service("orders")
@pytest.mark.django_db(databases=["orders"])
def test_money_is_unchanged():
    body = {"userId": "u1", "items": [{"productId": "x", "quantity": 1, "price": 0.1}]}
    client = APIClient(headers={"Idempotency-Key": "key-1"})

    first, second = (client.post("/orders", body, format="json") for _ in range(2))

    assert b'"price":0.10' in first.content
    assert first.content == second.content


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_many_at_once_are_one():
    start = threading.Barrier(8)

    def send(_):
        try:
            start.wait()
            answer = post()
            return answer.status_code, answer.content, "Idempotency-Replayed" in answer
        finally:
            connections["users"].close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))

    assert {(status, content) for status, content, _ in answers} == {(201, answers[0][1])}
    assert sorted(replayed for *_, replayed in answers) == [False] + [True] * 7
    assert User.objects.count() == OutboxEvent.objects.count() == 1


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_a_key_purged_during_a_request_is_new(monkeypatch):
    """The purge comes between the two statements of a repeat: the insert that finds the key, and the read of its answer."""
    body = {"email": "first@example.org", "name": "Ada"}
    assert APIClient(headers={"Idempotency-Key": "key-1"}).post("/users", body, format="json").status_code == 201
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    claim, claimed = idempotency._claim, []

    def claim_and_purge(key, fingerprint):
        claimed.append(claim(key, fingerprint))
        if len(claimed) == 1:
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(purge_keys).result() == 1
        return claimed[-1]

    monkeypatch.setattr(idempotency, "_claim", claim_and_purge)

    answer = post()

    assert claimed == [False, True]
    assert (answer.status_code, "Idempotency-Replayed" in answer) == (201, False)
    assert set(User.objects.values_list("email", flat=True)) == {body["email"], ADA["email"]}
    assert IdempotencyKey.objects.get().status == 201
    assert post()["Idempotency-Replayed"] == "true"


def purge_keys() -> int:
    """What the relay's clock does, in a session of its own; returns how many keys went."""
    try:
        [keys] = [expiry for expiry in retention.expiries() if expiry.table == "idempotency_keys"]
        return retention.purge(keys)
    finally:
        connections["users"].close()


def send_to(url, body=ADA):
    """POST over a real connection; the status and the answer, or (None, None) when the server died."""
    request = urllib.request.Request(
        f"{url}/users", json.dumps(body).encode(), {"Content-Type": "application/json", "Idempotency-Key": "key-1"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, {}
    except OSError:
        return None, {}


@pytest.mark.parametrize("table", ["users", "outbox"])
def test_a_process_killed_halfway_has_no_effect_or_all(table):
    """Before its last message to PostgreSQL, which contains its event and the COMMIT, it has none."""
    with ExitStack() as stack:
        environment = stack.enter_context(database("users"))
        doomed = stack.enter_context(gunicorn("users", environment))
        twin = stack.enter_context(gunicorn("users", environment))
        admin = stack.enter_context(psycopg.connect(environment[DATABASES["users"]], autocommit=True))
        pool = stack.enter_context(ThreadPoolExecutor(2))

        # Held up in the middle of the transaction, after its key.
        stack.enter_context(holder := psycopg.connect(environment[DATABASES["users"]]))
        holder.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        first = pool.submit(send_to, doomed.url)
        eventually(lambda: waiting(admin) == 1)
        second = pool.submit(send_to, twin.url)
        eventually(lambda: waiting(admin) == 2)
        doomed.child.kill9()
        assert first.result() == (None, {})
        holder.rollback()

        status, headers = second.result()
        assert status == 201
        if table == "users":
            assert "Idempotency-Replayed" not in headers
        assert send_to(twin.url)[1]["Idempotency-Replayed"] == "true"
        assert admin.execute("SELECT count(*) FROM users").fetchone() == (1,)
        assert admin.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


def waiting(connection):
    """How many transactions of this database wait for a lock."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return row[0]
