"""Users over HTTP."""

import re
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from chassis.messaging.models import OutboxEvent
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"])

ADA = {"email": "ada@example.org", "name": "Ada Lovelace"}


INVISIBLE = [
    "\u200d",
    "\u3164",
    " \u2800 ",
    "\u034f",
    "\ufe0f",
    "\u115f\u1160",
    "\u0301\u0489",
    "\u200d \u0902",
    "\u200f",
]
ODD = [
    "\u202e", "\u202a", "\u2066", "\u2069", "\u206a", "\u200b", "\ufeff", "\u00ad", "\u2060", "\u180e", "\ufff9", "\U000e0001",
    "\U000e0041", "\u2028", "\x85", "\x7f", "\ue000", "\U00100000", "\ufdd0", "\uffff", "\U0001fffe", "\U00050000", "\u0378",
]  # fmt: skip


@pytest.fixture
def client():
    return APIClient(raise_request_exception=False)


def post(client, body, **headers):
    return client.post("/users", body, format="json", headers=headers)


def test_create(client):
    answer = post(client, ADA)

    assert answer.status_code == 201
    body = answer.json()
    assert list(body) == ["id", "email", "name", "createdAt"]
    assert {name: body[name] for name in ADA} == ADA
    assert uuid.UUID(body["id"]) == User.objects.get().id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body["createdAt"])
    assert answer["Location"] == f"/users/{body['id']}"
    assert answer["Content-Type"] == "application/json"


def test_the_event_carries_the_request_id(client):
    post(client, ADA, **{"X-Request-Id": "asked-by-ada"})

    assert OutboxEvent.objects.get().request_id == "asked-by-ada"


def test_read_replace_change_delete(client):
    url = post(client, ADA)["Location"]

    assert client.get(url).json()["email"] == "ada@example.org"
    assert client.put(url, {"email": "al@example.org", "name": "A"}, format="json").json()["name"] == "A"
    changed = client.patch(url, {"name": "B"}, format="json").json()
    assert (changed["email"], changed["name"]) == ("al@example.org", "B")
    assert client.patch(url, {}, format="json").status_code == 200
    deleted = client.delete(url)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert client.get(url).status_code == client.delete(url).status_code == 404


def test_replacing_requires_all_fields(client):
    url = post(client, ADA)["Location"]

    answer = client.put(url, {"name": "Ada"}, format="json")

    assert answer.status_code == 400
    assert answer.json()["errors"] == {"email": ["This field is required."]}


@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_a_taken_email_is_a_conflict_of_that_field(client, method):
    post(client, ADA)
    bob = post(client, {"email": "bob@example.org", "name": "Bob"})["Location"]

    url = "/users" if method == "post" else bob
    answer = getattr(client, method)(url, {"email": "ADA@Example.org", "name": "Bob"}, format="json")

    assert answer.status_code == 409
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"] == {"email": ["This email is taken."]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "a\0@example.org", "name": "A"}, "email"),
        ({"email": "a@example.org", "name": "A\0"}, "name"),
        ({"email": "a@example.org", "name": "A\nB"}, "name"),
        ({"email": "a@example.org", "name": "A\x9bB"}, "name"),
        ({"email": "a@example.org", "name": "   "}, "name"),
        ({"email": "a@example.org", "name": ""}, "name"),
        ({"email": "a@example.org", "name": "x" * 201}, "name"),
        ({"email": "a@example.org", "name": 7}, "name"),
        ({"email": "a@example.org", "name": None}, "name"),
        ({"email": "a@example.org", "name": {"first": "A"}}, "name"),
        ({"email": "a@example.org", "name": ["A"]}, "name"),
        ({"email": "a@example.org"}, "name"),
        ({"name": "A"}, "email"),
        ({"email": "", "name": "A"}, "email"),
        ({"email": "nobody", "name": "A"}, "email"),
        ({"email": "a@example", "name": "A"}, "email"),
        ({"email": "ä@example.org", "name": "A"}, "email"),
        ({"email": "a@exämple.org", "name": "A"}, "email"),
        ({"email": "a b@example.org", "name": "A"}, "email"),
        ({"email": f"{'a' * 65}@example.org", "name": "A"}, "email"),
        *(({"email": "a@example.org", "name": name}, "name") for name in INVISIBLE),
        *(({"email": "a@example.org", "name": f"Ada{one}"}, "name") for one in ODD),
        ({"email": f"{'a' * 250}@example.org", "name": "A"}, "email"),
        ({"email": True, "name": "A"}, "email"),
    ],
)
def test_invalid_input_is_reported_by_field(client, body, field):
    answer = post(client, body)

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert list(answer.json()["errors"]) == [field]
    assert not User.objects.exists()


def test_a_lone_surrogate_is_invalid_json(client):
    answer = client.post("/users", '{"email": "a@example.org", "name": "\\ud800"}', content_type="application/json")

    assert answer.status_code == 400


@pytest.mark.parametrize("body", ["[]", '"text"', "7", "null", "true", '[{"name": "A"}]'])
def test_a_body_that_is_not_an_object(client, body):
    answer = client.post("/users", body, content_type="application/json")

    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["body"]


def test_unknown_and_read_only_fields_are_ignored(client):
    answer = post(client, {**ADA, "id": str(uuid.uuid4()), "createdAt": "1815-12-10T00:00:00Z", "admin": True})

    assert answer.status_code == 201
    assert not answer.json()["createdAt"].startswith("1815")


@pytest.mark.parametrize(
    "name",
    [
        "a\u200db", "\u200fשרה", f"{'क'}\u094d", "李小龍", "O'Brien", "Zoë 🎉", "❤\ufe0f", "👩\u200d🔬", "辻\U000e0100", "\U0002ebf0",
        "\U0001fae8", "\u0646\u06cc\u0645\u0627\u200c\u0632\u0627\u062f\u0647", "J\u00a0R", "x" * 200, "  spaces around  ",
    ],
)  # fmt: skip
def test_host_names_of_the_internet(client, name):
    assert post(client, {**ADA, "name": name}).json()["name"] == name.strip()


@pytest.mark.parametrize("id", ["abc", "1", "%00", "..%2f", "00000000-0000-0000-0000-00000000000g", "é", "a" * 5000])
@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_an_invalid_id_is_not_found(client, method, id):
    answer = getattr(client, method)(f"/users/{id}", ADA, format="json")

    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"


def test_an_id_may_be_written_in_capitals(client):
    url = post(client, ADA)["Location"]

    assert client.get(f"/users/{url.rpartition('/')[2].upper()}").status_code == 200


def test_the_form_of_the_browsable_api(client):
    answer = client.post("/users", ADA, format="multipart", headers={"Accept": "text/html"})

    assert answer.status_code == 201
    assert answer["Content-Type"].startswith("text/html")
    assert User.objects.get().email == "ada@example.org"


def form(*fields, end=b"\r\n--b--\r\n"):
    parts = (b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b' % field for field in fields)
    return b"\r\n".join(parts) + end


EMAIL = (b"email", b"ada@example.org")


@pytest.mark.parametrize(
    "body",
    [
        form(EMAIL, (b"name", b"Ada Lo"), end=b""),
        form(EMAIL, (b"name", b"Ada Lo"), end=b"\r\n--b"),
        form(EMAIL, (b"name", b"Ad\xc3")),
        form(EMAIL, (b"name", b"\xe9"), end=b"\r\n--b--"),
    ],
    ids=["breaks off", "has no end", "breaks off in a character", "is in another charset"],
)
def test_a_form_that_is_not_whole_is_not_taken_for_one(client, body):
    answer = client.generic("POST", "/users", body, "multipart/form-data; boundary=b")

    assert answer.status_code == 400, answer.content
    assert not User.objects.exists()


def test_a_whole_form_in_utf_8(client):
    body = form(EMAIL, (b"name", "Adé".encode()), end=b"\r\n--b--")
    assert client.generic("POST", "/users", body, "multipart/form-data; boundary=b").status_code == 201


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(email=json_values | st.emails(), name=json_values)
def test_no_input_is_a_server_error(client, email, name):
    try:
        answer = post(client, {"email": email, "name": name})
    except UnicodeEncodeError:  # a lone surrogate: cannot even be sent
        return

    assert answer.status_code in {201, 400, 409}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_no_bytes_are_a_server_error(client, body):
    answer = client.post("/users", body, content_type="application/json")

    assert answer.status_code in {400, 413}
