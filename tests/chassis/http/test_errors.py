"""Every error is a problem document with the request id."""

import io

import pytest
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.test import Client
from django.urls import clear_url_caches, path
from rest_framework import exceptions
from rest_framework.test import APIClient
from rest_framework.views import APIView

from chassis.http.errors import by_field
from chassis.http.urls import ERROR_VIEWS

pytestmark = pytest.mark.django_db(databases=["users"])

SECRET = "the password is swordfish"


class Raising(APIView):
    """Raises what the test wants."""

    error: Exception = RuntimeError(SECRET)

    def get(self, request):
        raise self.error

    def post(self, request):
        raise RuntimeError(repr(request.data))


def plain(request):
    raise RuntimeError(SECRET)


urlpatterns = [path("api", Raising.as_view()), path("plain", plain)]
handler400, handler403, handler404, handler500 = ERROR_VIEWS


@pytest.fixture
def client():
    return APIClient(raise_request_exception=False)


def assert_problem(answer, status):
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["status"] == status
    assert body["requestId"] == answer["X-Request-Id"]
    assert SECRET not in answer.text
    return body


def test_nothing_at_this_path(client):
    assert_problem(client.get("/nothing"), 404)


def test_not_found(client):
    assert_problem(client.get("/users/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"), 404)


@pytest.mark.parametrize(
    "url", ["/users/%00", "/users/%ff%fe", "/%00", "/users/a/b", "//users", "/users/", "/users//x"]
)
def test_odd_paths(client, url):
    assert_problem(client.get(url), 404)


def test_wrong_method(client):
    answer = client.delete("/users")

    assert_problem(answer, 405)
    assert answer["Allow"] == "GET, POST, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "X"])
def test_an_unknown_method(client, method):
    assert_problem(client.generic(method, "/users"), 405)


def test_wrong_method_where_there_is_no_api(client):
    assert_problem(client.delete("/health/live"), 405)


BROKEN = (
    *(b"", b"{", b"{'a':1}", b"{}x", b"NaN", b"[Infinity]", b'{"a":1e99999}', b"1" * 5000),
    *(b"\xff\xfe", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'"\\ud800"'),
    *(b"[" * 100_000, b"[" * 999 + b"]" * 999 + b","),
)


@pytest.mark.parametrize("body", BROKEN)
def test_a_body_that_is_not_json(client, body):
    answer = client.post("/users", body, content_type="application/json")

    assert assert_problem(answer, 400)["detail"] or body == b""


def test_deeply_nested_json_is_invalid_input(client):
    answer = client.post("/users", b'{"name":' + b"[" * 900 + b"]" * 900 + b"}", content_type="application/json")

    assert_problem(answer, 400)


NO_FORMS = (
    ("", b""),
    ("b", b""),
    ("b", b"--b\r\n"),
    ("b" * 220, b"x"),
    ("\0", b"x"),
    ("b", b"--b\r\nX: \xff\r\n\r\n--b--"),
)


@pytest.mark.parametrize(("boundary", "body"), NO_FORMS)
def test_an_invalid_form(client, boundary, body):
    answer = client.post("/users", body, content_type=f"multipart/form-data; boundary={boundary}")

    assert_problem(answer, 400)


def test_a_file_is_not_text(client):
    answer = client.post("/users", {"email": "a@example.org", "name": io.BytesIO(b"Ada")}, format="multipart")

    assert list(assert_problem(answer, 400)["errors"]) == ["name"]


def test_wrong_media_type(client):
    assert_problem(client.post("/users", b"<user/>", content_type="application/xml"), 415)


@pytest.mark.parametrize("accept", ["text/csv", "image/*", "application/json;v=2, text/csv;q=0.5"])
def test_not_acceptable(client, accept):
    answer = client.get("/users", headers={"Accept": accept})

    assert answer.status_code in ({406} if "json" not in accept else {200, 406})
    if answer.status_code == 406:
        assert_problem(answer, 406)


def test_too_large(client, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000

    assert_problem(client.post("/users", b"[" + b" " * 1000 + b"]", content_type="application/json"), 413)
    assert_problem(client.post("/users", {"name": "x" * 1000}, format="multipart"), 413)


def test_too_large_with_an_idempotency_key(client, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    body = b"[" + b" " * 1000 + b"]"

    assert_problem(
        client.post("/users", body, content_type="application/json", headers={"Idempotency-Key": "large"}), 413
    )


def test_a_host_that_is_not_served(client):
    assert_problem(client.get("/users", headers={"Host": "evil.example"}), 400)


@pytest.mark.parametrize("url", ["/api", "/plain"])
def test_a_bug_exposes_no_details(client, settings, url):
    settings.ROOT_URLCONF = __name__

    assert_problem(client.get(url), 500)


def test_a_page_without_its_database_is_also_a_503(client, settings, monkeypatch):
    def fail(request):
        raise OperationalError(SECRET)

    settings.ROOT_URLCONF = __name__
    monkeypatch.setattr("tests.chassis.http.test_errors.urlpatterns", [path("admin-like", fail)])
    clear_url_caches()

    answer = client.get("/admin-like")

    assert_problem(answer, 503)
    assert answer["Retry-After"] == "1"
    clear_url_caches()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperationalError(SECRET), 503),
        (RequestDataTooBig(SECRET), 413),
        (SuspiciousOperation(SECRET), 400),
        (exceptions.Throttled(wait=7), 429),
        (exceptions.PermissionDenied(), 403),
    ],
)
def test_known_errors(client, settings, monkeypatch, error, status):
    settings.ROOT_URLCONF = __name__
    monkeypatch.setattr(Raising, "error", error)

    answer = client.get("/api")

    assert_problem(answer, status)
    assert answer.get("Retry-After") == {503: "1", 429: "7"}.get(status)


def test_the_clients_request_id_is_in_it(client):
    assert client.get("/nothing", headers={"X-Request-Id": "mine-1"}).json()["requestId"] == "mine-1"


def test_a_browser_gets_a_problem_as_html(client):
    answer = client.get("/users/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", headers={"Accept": "text/html"})

    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")
    assert "requestId" in answer.text


def test_a_form_is_shown_again_with_its_errors(client):
    form = {"email": "nobody", "name": "Ada"}
    answer = client.post("/users", form, format="multipart", headers={"Accept": "text/html"})

    assert answer.status_code == 400
    assert 'value="nobody"' in answer.text
    assert "Enter a valid email address." in answer.text


def test_django_exposes_no_details_either():
    answer = Client(raise_request_exception=False).get("/nothing", headers={"Accept": "text/html"})

    assert_problem(answer, 404)


@pytest.mark.parametrize(
    ("detail", "fields"),
    [
        ({"name": ["wrong"]}, {"name": ["wrong"]}),
        ({"items": [{}, {"price": ["a", "b"]}]}, {"items.1.price": ["a", "b"]}),
        ({"items": {"0": {"price": ["a"]}}}, {"items.0.price": ["a"]}),
        ({"items": {"non_field_errors": ["short"]}}, {"items": ["short"]}),
        ({"non_field_errors": ["no object"]}, {"body": ["no object"]}),
        (["wrong"], {"": ["wrong"]}),
        ({"name": "wrong"}, {"name": ["wrong"]}),
        ({}, {}),
    ],
)
def test_by_field(detail, fields):
    assert by_field(detail) == fields
