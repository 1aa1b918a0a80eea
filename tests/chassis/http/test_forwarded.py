"""Behind a proxy: links as the client sees them, which clients cannot manipulate."""

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import get_script_prefix, reverse
from rest_framework.test import APIClient

from chassis.http.forwarded import ForwardedMiddleware, Proxies


def seen(peer="127.0.0.1", **headers):
    """What a view sees of a request with these headers."""
    found = {}

    def view(request):
        found.update(path=request.path, link=reverse("user-list"), client=request.META["REMOTE_ADDR"])
        return HttpResponse()

    ForwardedMiddleware(view)(RequestFactory(REMOTE_ADDR=peer).get("/users", headers=headers))
    return found


def test_a_prefix_is_in_every_link():
    assert seen(**{"X-Forwarded-Prefix": "/api"}) == {"path": "/api/users", "link": "/api/users", "client": "127.0.0.1"}
    assert get_script_prefix() == "/"


@pytest.mark.parametrize("prefix", ["/a/b", "/api/", "/v1.0", "/~x"])
def test_prefixes(prefix):
    assert seen(**{"X-Forwarded-Prefix": prefix})["link"] == f"{prefix.rstrip('/')}/users"


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "/",
        "api",
        "//evil.example",
        "/api//x",
        "/..",
        "/./x",
        "/a b",
        '/"><script>',
        "/api\r\nX: y",
        "https://evil.example",
        "/é",
        "/a" * 9,
    ],
)
def test_an_invalid_prefix_is_ignored(prefix):
    assert seen(**{"X-Forwarded-Prefix": prefix})["link"] == "/users"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 127.0.0.2, ::1", "203.0.113.9"),
        ("203.0.113.9, nonsense, 127.0.0.2", "127.0.0.2"),
        ("127.0.0.3, 127.0.0.2", "127.0.0.3"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        (",", "127.0.0.1"),
        ("nonsense", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_the_clients_address_is_the_one_that_the_proxy_saw(header, client):
    assert seen(**{"X-Forwarded-For": header})["client"] == client


def test_the_prefix_is_reset_even_if_the_view_fails():
    def fail(request):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ForwardedMiddleware(fail)(RequestFactory().get("/users", headers={"X-Forwarded-Prefix": "/api"}))

    assert get_script_prefix() == "/"


FORGED = {
    "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https",
}  # fmt: skip


@pytest.mark.parametrize("peer", ["203.0.113.7", "10.0.0.1", "2001:db8::7", "::ffff:203.0.113.7", "", "nonsense"])
def test_no_other_client_is_trusted(peer, settings):
    settings.ALLOWED_HOSTS = ["testserver", "evil.example"]
    assert seen(peer, **FORGED) == {"path": "/users", "link": "/users", "client": peer}

    answer = Client(REMOTE_ADDR=peer).get("/admin", headers=FORGED)

    assert answer["Location"] == "/admin/"
    assert (answer.wsgi_request.get_host(), answer.wsgi_request.scheme) == ("testserver", "http")


@pytest.mark.parametrize(
    ("networks", "peer", "trusted"),
    [
        ((), "127.0.0.1", False),
        (("10.0.0.0/8",), "10.1.2.3", True),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("192.0.2.1/32", "fd00::/8"), "fd00::5", True),
        (("192.0.2.1/32", "fd00::/8"), "192.0.2.2", False),
    ],
)
def test_trusted_proxies_are_a_setting(networks, peer, trusted):
    assert Proxies(networks).trusts(peer) is trusted


@pytest.mark.django_db(databases=["users"])
def test_the_throttle_cannot_be_bypassed_by_claiming_addresses(settings):
    settings.ADMIN_LOGIN_ATTEMPTS = 1
    User.objects.create_superuser("root", "", "x")

    def log_in(number):
        headers = {
            "X-Forwarded-For": f"192.0.2.{number}",
            "Forwarded": f"for=192.0.2.{number}",
            "X-Real-IP": f"192.0.2.{number}",
        }
        form = {"username": f"user-{number}", "password": "wrong"}
        return Client(REMOTE_ADDR="203.0.113.7", headers=headers).post("/admin/login/", form).status_code

    assert [log_in(number) for number in range(5)] == [200] * 4 + [429]


@pytest.mark.django_db(databases=["users"])
def test_pages_and_locations_behind_the_prefix():
    client = APIClient(headers={"X-Forwarded-Prefix": "/api", "X-Forwarded-Host": "localhost:8000"})

    created = client.post("/users", {"email": "ada@example.org", "name": "Ada"}, format="json")
    page = client.get("/users", headers={"Accept": "text/html"})

    assert created["Location"].startswith("/api/users/")
    assert 'action="/api/users"' in page.text
    assert 'href="/static/rest_framework/' in page.text
    assert 'action="/users"' not in page.text
