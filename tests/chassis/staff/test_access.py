"""Who may use the staff API: staff with the permission, and operators with the token; nobody else, and not over the gateway."""

import pytest
from django.test import Client
from django.urls import get_resolver
from rest_framework.response import Response
from structlog.testing import capture_logs

from chassis.observability import metrics, tracing
from chassis.staff.information import InformationView
from chassis.staff.urls import urlpatterns
from gateway import routes
from tests.chassis.staff.clients import NAME, TOKEN, operator, person

pytestmark = pytest.mark.django_db(databases=["users"])

NEEDED = {
    "/staff/info": (),
    "/staff/story?ids=1": ("view_story",),
    "/staff/outbox": ("view_outboxevent",),
    "/staff/inbox": ("view_inboxevent",),
    "/staff/outbox/1": ("view_outboxevent",),
    "/staff/outbox/1?reveal=1": ("view_outboxevent", "reveal_outboxevent"),
}
"""The permissions of each page that a user without all permissions can have."""

FOUND = {200, 404}


@pytest.mark.parametrize("path", [*NEEDED, "/staff/settings"])
class TestEachPage:
    def test_is_for_an_operator_with_the_token(self, path):
        assert operator().get(path).status_code in FOUND

    def test_is_for_a_superuser(self, path):
        assert person(superuser=True).get(path).status_code in FOUND

    def test_nobody_else_learns_anything(self, path):
        answer = Client().get(path)
        assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
        assert answer["WWW-Authenticate"] == "Bearer"
        assert set(answer.json()) == {"type", "title", "status", "detail", "requestId"}

    def test_a_wrong_token_is_rejected(self, path):
        for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é" * 40):
            assert operator(token=wrong).get(path).status_code == 401

    def test_a_user_who_is_not_staff_is_refused(self, path):
        client = person(*NEEDED.get(path, ()), staff=False)
        answer = client.get(path)
        assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")

    def test_a_deactivated_user_is_nobody(self, path):
        assert person(superuser=True, active=False).get(path).status_code == 401

    def test_nothing_is_stored_by_a_cache(self, path):
        assert operator().get(path)["Cache-Control"] == "no-store"

    def test_only_its_methods_are_allowed(self, path):
        for method in ("put", "delete", "patch"):
            assert getattr(operator(), method)(path).status_code == 405


@pytest.mark.parametrize(("path", "needed"), NEEDED.items())
class TestPermissions:
    def test_are_sufficient_for_staff(self, path, needed):
        assert person(*needed).get(path).status_code in FOUND

    def test_are_all_necessary(self, path, needed):
        everything = {"view_story", "view_outboxevent", "view_inboxevent", "reveal_outboxevent", "view_deadletter"}
        for missing in needed:
            client = person(*everything - {missing})
            assert client.get(path).status_code == 403
            break


def test_without_a_configured_token_none_is_accepted(settings):
    settings.OPERATOR_TOKEN = None
    for token in ("", "None", TOKEN):
        assert operator(token=token).get("/staff/info").status_code == 401


@pytest.mark.parametrize("name", ["", " ", "x" * 151, "a\tb", "\u202ebob", "\u115f"])
def test_an_operator_needs_a_name(name):
    answer = Client(headers={"Authorization": f"Bearer {TOKEN}", "X-Operator": name.encode().decode("latin-1")}).get(
        "/staff/info"
    )
    assert answer.status_code == 400
    assert "X-Operator" in answer.json()["errors"]


@pytest.mark.parametrize("name", ["x", "x" * 150, NAME, "Žofie Černá"])
def test_names_of_people_are_names(name):
    assert operator(name.encode().decode("latin-1")).get("/staff/info").status_code == 200


def test_other_schemes_are_no_credentials():
    for header in (f"Basic {TOKEN}", TOKEN, f"Token {TOKEN}"):
        assert Client(headers={"Authorization": header, "X-Operator": NAME}).get("/staff/info").status_code == 401


class TestTheGateway:
    def test_has_no_such_path(self):
        own = get_resolver("gateway.urls")
        for pattern in urlpatterns:
            path = str(pattern.pattern).replace("<int:position>", "1")
            for prefix in ("/", "/api/"):
                assert routes.find(f"{prefix}{path}".encode()) is None
            with pytest.raises(Exception, match="path"):
                own.resolve(f"/{path}")


class TestPolling:
    """Tools poll: that fills neither the logs nor the metrics of requests, which are about clients."""

    @pytest.mark.parametrize(("client", "logged"), [(operator, []), (Client, [401])])
    def test_only_what_was_rejected_is_logged(self, client, logged):
        with capture_logs() as logs:
            client().get("/staff/info")
        assert [line["status"] for line in logs if line["event"] == "request"] == logged

    def test_it_has_no_metrics(self):
        for path in ("/users", "/staff/info"):
            operator().get(path)
        routes = {
            one.labels["http_route"] for metric in metrics.HTTP_REQUEST_SECONDS.collect() for one in metric.samples
        }
        assert "/users" in routes
        assert not [route for route in routes if route.startswith("/staff")]

    def test_it_has_no_trace(self, monkeypatch):
        seen = []
        monkeypatch.setattr(
            InformationView, "get", lambda self, request: seen.append(tracing.current_ids()) or Response({})
        )
        operator().get("/staff/info", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
        assert seen == [("", "")]
