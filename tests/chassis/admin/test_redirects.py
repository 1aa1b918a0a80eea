"""No parameter of the admin redirects to another site or makes a page fail."""

from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client

PASSWORD = "correct horse battery staple"

ELSEWHERE = [
    "https://evil.example/", "http://evil.example", "//evil.example/", "///evil.example", "////evil.example", "/\\evil.example",
    "\\\\evil.example", "/\t/evil.example", "\t//evil.example", " //evil.example", "/\n/evil.example", "https:evil.example",
    "https:/evil.example", "https:///evil.example", "http:\\\\evil.example", "//evil.example@testserver/", "//testserver@evil.example/",
    "https://testserver.evil.example/", "//[::1]evil.example", "javascript:alert(1)", "data:text/html,x", "\x00//evil.example",
    "%2f%2fevil.example", "/%09/evil.example", "//evil.example%00", "//[", "http://[", "https://evil.example:99999999/", "//\u2028evil.example",
    "//evil。example", "\ud800//evil.example", "ftp://testserver/", "//", "http://", "/" * 3000, "x" * 3000, "/admin/" + "%ff" * 3000,
]  # fmt: skip
BYTES = [(text, text.encode("utf-8", "surrogatepass")) for text in ELSEWHERE]


def assert_stays_here(answer, asked):
    assert answer.status_code < 500, (asked, answer.status_code)
    # A path of the admin, or a query of the page itself.
    assert answer.get("Location", "?").startswith(("/admin/", "?")), (asked, answer["Location"])


@pytest.fixture
def client(service, settings):
    settings.ADMIN_LOGIN_ATTEMPTS = 1000
    User.objects.db_manager(service).create_superuser("root", "", PASSWORD)
    return Client(raise_request_exception=False)


both = [
    pytest.param(name, marks=[pytest.mark.service(name), pytest.mark.django_db(databases=[name])])
    for name in ("users", "orders")
]


@pytest.mark.parametrize("name", both)
def test_the_login_redirects_to_no_other_site(client, name):
    for text, raw in BYTES:
        query = urlencode({"next": raw})
        assert_stays_here(client.get(f"/admin/login/?{query}"), text)
        form = {"username": "root", "password": PASSWORD}
        for path, more in ((f"/admin/login/?{query}", {}), ("/admin/login/", {"next": raw})):
            answer = client.post(path, urlencode({**form, **more}), content_type="application/x-www-form-urlencoded")
            assert_stays_here(answer, (path, text))
            if answer.status_code == 302:
                client.cookies.clear()


@pytest.mark.parametrize("name", both)
def test_nothing_after_it_is_processed_either(client, name):
    root = User.objects.using(name).get()
    kind = f"{name}/{name.removesuffix('s')}"
    paths = ["/admin", "/admin/", "/admin/login/", "/admin/password_change/", "/admin/autocomplete/", f"/admin/{kind}/"]
    names = ["next", "_changelist_filters", "_to_field", "_popup", "e", "redirect", "url", "app_label", "model_name"]
    for text, raw in BYTES:
        client.force_login(root)
        query = urlencode(dict.fromkeys(names, raw))
        for path in [f"{path}?{query}" for path in paths] + places(kind, raw):
            assert_stays_here(client.get(path), (path, text))
        form = urlencode({"next": raw})
        answer = client.post(f"/admin/logout/?{form}", form, content_type="application/x-www-form-urlencoded")
        assert_stays_here(answer, text)


@pytest.mark.parametrize("name", both)
def test_anonymous_users_are_redirected_to_the_login(client, name):
    for text, raw in BYTES:
        for path in [f"/admin/?{urlencode({'next': raw, 'q': raw})}", *places(f"{name}/{name.removesuffix('s')}", raw)]:
            assert_stays_here(client.get(path), (path, text))


def places(kind, raw):
    """Paths with `raw` in them, as it is and quoted."""
    plain, quoted = quote(raw, safe="/")[:500], quote(raw, safe="")[:500]
    return [f"/{plain}", f"/admin/{plain}", f"/admin/{quoted}/", f"/admin/{kind}/{quoted}/change/"]
