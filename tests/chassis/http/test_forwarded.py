"""Behind a proxy: links as the client sees them, and nothing that a client could do with it."""

import pytest
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import get_script_prefix, reverse
from rest_framework.test import APIClient

from chassis.http.forwarded import ForwardedMiddleware


def seen(**headers):
    """What a view sees of a request with these headers."""
    found = {}

    def view(request):
        found.update(path=request.path, link=reverse("user-list"), client=request.META["REMOTE_ADDR"])
        return HttpResponse()

    ForwardedMiddleware(view)(RequestFactory().get("/users", headers=headers))
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
def test_what_is_no_prefix_is_ignored(prefix):
    assert seen(**{"X-Forwarded-Prefix": prefix})["link"] == "/users"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("nonsense", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_the_clients_address_is_the_one_that_the_proxy_saw(header, client):
    assert seen(**{"X-Forwarded-For": header})["client"] == client


def test_the_prefix_goes_even_when_the_view_fails():
    def fail(request):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ForwardedMiddleware(fail)(RequestFactory().get("/users", headers={"X-Forwarded-Prefix": "/api"}))

    assert get_script_prefix() == "/"


def test_it_is_not_there_where_nothing_is_trusted(settings):
    settings.TRUST_FORWARDED_HEADERS = False

    with pytest.raises(MiddlewareNotUsed):
        ForwardedMiddleware(lambda request: HttpResponse())


@pytest.mark.django_db(databases=["users"])
def test_pages_and_locations_behind_the_prefix():
    client = APIClient(headers={"X-Forwarded-Prefix": "/api", "X-Forwarded-Host": "localhost:8000"})

    created = client.post("/users", {"email": "ada@example.org", "name": "Ada"}, format="json")
    page = client.get("/users", headers={"Accept": "text/html"})

    assert created["Location"].startswith("/api/users/")
    assert 'action="/api/users"' in page.text
    assert 'href="/static/rest_framework/' in page.text
    assert 'action="/users"' not in page.text
