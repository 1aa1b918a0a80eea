"""Conditional requests (RFC 9110, 13): repeated reads and concurrent writes."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from django.db import connections
from django.utils.http import http_date
from rest_framework.test import APIClient

from chassis.http.conditions import Validators
from orders import services as orders_services
from orders.models import Order
from tests.orders.received import paid
from tests.serving import gateway, serving
from users import services
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"])

STALE = '"stale"'
LONG_AGO = "Mon, 01 Jan 2001 00:00:00 GMT"
WRITES = [("put", {"email": "b@example.org", "name": "B"}), ("patch", {"name": "B"}), ("delete", None)]


@pytest.fixture
def url():
    return f"/users/{services.create_user(email='ada@example.org', name='Ada').id}"


def ask(method, url, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return getattr(APIClient(), method)(url, body, format="json", headers=headers)


def tomorrow():
    return http_date((datetime.now(UTC) + timedelta(days=1)).timestamp())


class TestRead:
    def test_a_current_representation_is_not_resent(self, url):
        first = ask("get", url)
        again = ask("get", url, If_None_Match=first["ETag"])

        assert (again.status_code, again.content) == (304, b"")
        assert again["ETag"] == first["ETag"]
        assert again["Last-Modified"] == first["Last-Modified"]
        assert "Content-Length" not in again
        assert "Content-Type" not in again

    @pytest.mark.parametrize("listed", ["*", "W/{}", '"x", {}', '"a,b", W/{} ,"c"'])
    def test_it_may_be_one_of_several_and_weak(self, url, listed):
        assert ask("get", url, If_None_Match=listed.format(ask("get", url)["ETag"])).status_code == 304

    @pytest.mark.parametrize("listed", [STALE, "nonsense", "", '"'])
    def test_a_changed_representation_is_sent(self, url, listed):
        assert ask("get", url, If_None_Match=listed).status_code == 200

    def test_it_changes_with_what_is_read(self, url):
        before = ask("get", url)["ETag"]
        ask("patch", url, {"name": "B"})

        assert ask("get", url, If_None_Match=before).status_code == 200

    def test_by_date(self, url):
        modified = ask("get", url)["Last-Modified"]

        assert ask("get", url, If_Modified_Since=modified).status_code == 304
        assert ask("get", url, If_Modified_Since=LONG_AGO).status_code == 200
        assert ask("get", url, If_Modified_Since="yesterday").status_code == 200
        # An ETag says more: the date is not looked at.
        assert ask("get", url, If_Modified_Since=modified, If_None_Match=STALE).status_code == 200

    def test_a_precondition_also_applies_to_reads(self, url):
        assert ask("get", url, If_Match=STALE).status_code == 412
        assert ask("get", url, If_Match=ask("get", url)["ETag"]).status_code == 200

    def test_a_list(self, url):
        first = ask("get", "/users")
        assert "Last-Modified" not in first
        assert ask("get", "/users", If_None_Match=first["ETag"]).status_code == 304

        services.create_user(email="b@example.org", name="B")

        assert ask("get", "/users", If_None_Match=first["ETag"]).status_code == 200

    def test_head_has_the_same_header(self, url):
        etag = ask("get", url)["ETag"]

        assert ask("head", url)["ETag"] == etag
        assert ask("head", url, If_None_Match=etag).status_code == 304

    def test_an_html_page_has_none(self, url):
        assert "ETag" not in ask("get", url, Accept="text/html")


class TestWrite:
    @pytest.mark.parametrize(("method", "body"), WRITES)
    @pytest.mark.parametrize(
        "headers",
        [{"If_Match": STALE}, {"If_Match": "nonsense"}, {"If_Match": 'W/{etag}'}, {"If_None_Match": "*"}, {"If_None_Match": "{etag}"},
         {"If_Unmodified_Since": LONG_AGO}, {"If_Match": STALE, "If_Unmodified_Since": "{tomorrow}"}],
    )  # fmt: skip
    def test_a_failed_precondition_prevents_the_write(self, url, method, body, headers):
        before = ask("get", url)
        sent = {name: value.format(etag=before["ETag"], tomorrow=tomorrow()) for name, value in headers.items()}

        answer = ask(method, url, body, **sent)

        assert answer.status_code == 412
        assert answer["Content-Type"] == "application/problem+json"
        assert ask("get", url).content == before.content

    @pytest.mark.parametrize(("method", "body"), WRITES)
    @pytest.mark.parametrize(
        "headers",
        [{}, {"If_Match": "{etag}"}, {"If_Match": '"x", {etag}'}, {"If_Match": "*"}, {"If_None_Match": STALE},
         {"If_Unmodified_Since": "{tomorrow}"}, {"If_Unmodified_Since": "nonsense"}, {"If_Match": "{etag}", "If_Unmodified_Since": LONG_AGO}],
    )  # fmt: skip
    def test_a_matching_precondition_allows_the_write(self, url, method, body, headers):
        etag = ask("get", url)["ETag"]
        sent = {name: value.format(etag=etag, tomorrow=tomorrow()) for name, value in headers.items()}

        assert ask(method, url, body, **sent).status_code in {200, 204}

    def test_other_errors_take_precedence(self, url):
        assert ask("put", url, {"name": "B"}, If_Match=STALE).status_code == 400
        assert ask("patch", f"/users/{uuid.uuid4()}", {"name": "B"}, If_Match=STALE).status_code == 404

    def test_created_and_patched_resources_have_an_etag(self):
        made = ask("post", "/users", {"email": "b@example.org", "name": "B"})
        assert made["ETag"] == ask("get", made["Location"])["ETag"]

        changed = ask("patch", made["Location"], {"name": "C"})
        assert changed["ETag"] == ask("get", made["Location"])["ETag"] != made["ETag"]

    def test_after_a_put_no_validator_is_sent(self, url):
        answer = ask("put", url, {"email": "b@example.org", "name": "B"})

        assert "ETag" not in answer

    def test_a_change_without_differences_is_not_a_modification(self, url):
        before = ask("get", url)
        ask("patch", url, {"name": "Ada"})

        assert ask("get", url)["Last-Modified"] == before["Last-Modified"]
        assert ask("get", url)["ETag"] == before["ETag"]

    def test_a_repeated_write_gets_its_response_despite_an_old_etag(self, url):
        etag = ask("get", url)["ETag"]
        first, second = (ask("patch", url, {"name": "B"}, If_Match=etag, Idempotency_Key="once") for _ in range(2))

        assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (200, 200, "true")
        assert first.content == second.content


@pytest.mark.django_db(databases=["users"], transaction=True)
@pytest.mark.parametrize(("method", "body"), WRITES)
def test_one_of_many_writers_with_the_same_etag_succeeds(method, body):
    user = services.create_user(email="ada@example.org", name="Ada")
    etag = ask("get", f"/users/{user.id}")["ETag"]
    start = threading.Barrier(6)

    def write(number):
        try:
            start.wait()
            changed = {**body, "name": f"N{number}"} if body else None
            return ask(method, f"/users/{user.id}", changed, If_Match=etag).status_code
        finally:
            connections["users"].close()

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(write, range(6)))

    # Of those who delete, some may come when there is nothing any more.
    assert len([status for status in statuses if status < 300]) == 1
    assert set(statuses) - {200, 204} <= ({412} if body else {404, 412})


@pytest.mark.service("orders")
@pytest.mark.django_db(databases=["orders"])
def test_an_order_changes_with_its_payment():
    item = {"productId": "x", "quantity": 1, "price": 1}
    url = ask("post", "/orders", {"userId": "u1", "items": [item]})["Location"]
    Order.objects.update(modified_at=datetime(2026, 1, 1, tzinfo=UTC))
    before = ask("get", url)
    assert before["Last-Modified"] == "Thu, 01 Jan 2026 00:00:00 GMT"

    orders_services.close_orders([paid(Order.objects.get().id, payment_id=uuid.uuid4())])

    assert ask("get", url, If_None_Match=before["ETag"]).status_code == 200
    assert ask("get", url, If_Modified_Since=before["Last-Modified"]).status_code == 200
    assert ask("get", "/orders", If_None_Match=ask("get", "/orders")["ETag"]).status_code == 304


def test_existing_rows_also_have_a_time():
    User.objects.create(email="a@example.org", name="A")

    assert User.objects.get().modified_at is not None


def test_an_etag_is_a_function_of_the_json():
    assert Validators.of({"a": 1}).etag == Validators.of({"a": 1}).etag != Validators.of({"a": 2}).etag


def test_through_the_gateway():
    with (
        serving("users") as url,
        gateway(users=url, orders=url, payments=url) as served,
        httpx2.Client(base_url=served.url) as client,
    ):
        made = client.post("/api/users", json={"email": "ada@example.org", "name": "Ada"})
        path = made.headers["Location"]
        path = path if path.startswith("/api") else f"/api{path}"
        etag = made.headers["ETag"]
        for _ in range(2):  # the same connection is used again behind an answer without a body
            assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
        assert client.get(path).json()["name"] == "Ada"
        assert client.patch(path, json={"name": "B"}, headers={"If-Match": etag}).status_code == 200
        stale = client.patch(path, json={"name": "C"}, headers={"If-Match": etag})
        assert (stale.status_code, stale.json()["status"]) == (412, 412)
        assert client.delete(path, headers={"If-Unmodified-Since": LONG_AGO}).status_code == 412
        assert client.delete(path, headers={"If-Match": client.get(path).headers["ETag"]}).status_code == 204
        document = client.get("/api/schema").json()
    operation = document["paths"]["/api/users/{id}"]["patch"]
    assert {"If-Match", "If-Unmodified-Since"} <= {parameter["name"] for parameter in operation["parameters"]}
    assert "412" in operation["responses"]
    read = document["paths"]["/api/users/{id}"]["get"]["responses"]
    assert {"ETag", "Last-Modified"} <= set(read["200"]["headers"])
    assert "304" in read
    assert json.dumps(document)
