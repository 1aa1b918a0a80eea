"""Pages of other sites change nothing, unless their origin is allowed."""

import pytest
from rest_framework.test import APIClient

from chassis.http.origins import POLICY
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"])

ADA = {"email": "ada@example.org", "name": "Ada"}
FRONT_END = "https://app.example.org"


@pytest.fixture(autouse=True)
def hosts(settings):
    settings.ALLOWED_HOSTS = ["testserver", "shop.example.org"]


def post(format="multipart", **headers):
    return APIClient().post(
        "/users", ADA, format=format, headers={name.replace("_", "-"): v for name, v in headers.items()}
    )


@pytest.mark.parametrize("format", ["multipart", "json"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://other.testserver"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "http://testserver"},
        {"Sec_Fetch_Site": "nonsense"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver:8080"},
        {"Origin": "http://["},
        {"Origin": "http://testserver.evil.example"},
        {"Origin": FRONT_END},
    ],
)
def test_a_page_of_another_site_creates_no_user(format, headers):
    answer = post(format, **headers)

    assert answer.status_code == 403
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["requestId"] == answer["X-Request-Id"]
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec_Fetch_Site": "same-origin", "Origin": "http://testserver"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "http://testserver"},
        {"Origin": "https://testserver"},
        {"Origin": "https://shop.example.org", "X_Forwarded_Host": "shop.example.org"},
    ],
)
def test_own_pages_and_programs_can(headers):
    assert post(**headers).status_code == 201


@pytest.mark.parametrize("method", ["put", "patch", "delete", "post"])
def test_no_unsafe_method_is_allowed(method):
    answer = getattr(APIClient(), method)("/users", {}, format="json", headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403


def test_a_read_is_answered_but_not_readable():
    answer = APIClient().get("/users", headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer


def test_an_allowed_origin_may(settings):
    settings.CORS_ALLOWED_ORIGINS = (FRONT_END,)

    answer = post("json", Origin=FRONT_END, Sec_Fetch_Site="cross-site")

    assert answer.status_code == 201
    assert answer["Access-Control-Allow-Origin"] == FRONT_END
    assert "ETag" in answer["Access-Control-Expose-Headers"]
    assert "Origin" in answer["Vary"]
    refused = post("json", Origin=FRONT_END, Sec_Fetch_Site="cross-site")
    assert (refused.status_code, refused["Access-Control-Allow-Origin"]) == (409, FRONT_END)
    assert post("json", Origin="https://evil.example", Sec_Fetch_Site="cross-site").status_code == 403


def test_a_preflight(settings):
    asked = {"Origin": FRONT_END, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "if-match"}
    assert "Access-Control-Allow-Origin" not in APIClient().options("/users", headers=asked)
    settings.CORS_ALLOWED_ORIGINS = (FRONT_END,)

    answer = APIClient().options("/users", headers=asked)

    assert answer.status_code == 204
    assert answer["Access-Control-Allow-Origin"] == FRONT_END
    assert "Idempotency-Key" in answer["Access-Control-Allow-Headers"]
    assert "PATCH" in answer["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in answer


@pytest.mark.parametrize("path", ["/users", "/admin/login/"])
def test_pages_run_only_our_own_files(path):
    answer = APIClient().get(path, headers={"Accept": "text/html"})

    assert answer["Content-Security-Policy"] == POLICY
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" not in APIClient().get("/schema")
