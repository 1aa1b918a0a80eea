"""Pages of other sites in a real browser cannot change anything, unless their origin is allowed."""

import http.server
import threading
import urllib.request
import uuid
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.serving import gateway, gunicorn

pytestmark = pytest.mark.browser

PAGE = b"""<!doctype html><title>Elsewhere</title>
<form method="post" enctype="multipart/form-data" action="TARGET">
<input name="email" value="EMAIL"><input name="name" value="Mallory"><button>Win a prize</button></form>"""

FETCH = """async ([url, email, type]) => {
  const body = type === "json" ? JSON.stringify({email, name: "Mallory"}) : (() => {
    const form = new FormData(); form.append("email", email); form.append("name", "Mallory"); return form; })();
  const headers = type === "json" ? {"Content-Type": "application/json", "Idempotency-Key": email} : {};
  try {
    const answer = await fetch(url, {method: "POST", body, headers});
    return [answer.status, answer.headers.get("ETag")];
  } catch (error) { return String(error); }
}"""


@contextmanager
def elsewhere(target, email):
    """Another site: its URL."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.replace(b"TARGET", target.encode()).replace(b"EMAIL", email.encode()))

        def log_message(self, *args):
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        # `localhost` and `127.0.0.1` are two sites to a browser.
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["directly", "through the gateway"])
def users(site, request):
    return f"{site.users}/users" if request.param == "directly" else f"{site.gateway}/api/users"


@pytest.fixture
def tab(browser):
    """A page of whose errors the test itself has a look."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


def exists(users, email):
    return email in urllib.request.urlopen(f"{users}?limit=100", timeout=30).read().decode()


def test_a_form_on_another_site_creates_no_user(tab, users):
    email = f"{uuid.uuid4()}@example.org"
    with elsewhere(users, email) as url:
        tab.goto(url)
        with tab.expect_response(users) as answer:
            tab.click("button")

    assert answer.value.status == 403
    assert not exists(users, email)


@pytest.mark.parametrize("kind", ["form", "json"])
def test_its_script_does_not_either(tab, users, kind):
    email = f"{uuid.uuid4()}@example.org"
    with elsewhere(users, email) as url:
        tab.goto(url)
        assert "Failed to fetch" in tab.evaluate(FETCH, [users, email, kind])

    assert not exists(users, email)


def test_an_allowed_origin_can(tab, site):
    email = f"{uuid.uuid4()}@example.org"
    with elsewhere("", email) as url:
        environment = {**site.users_environment, "CORS_ALLOWED_ORIGINS": url.rstrip("/")}
        with gunicorn("users", environment) as named, gateway(users=named.url) as entry:
            for users in (f"{named.url}/users", f"{entry.url}/api/users"):
                email = f"{uuid.uuid4()}@example.org"
                tab.goto(url)
                status, etag = tab.evaluate(FETCH, [users, email, "json"])
                assert status == 201
                assert etag.startswith('"')


def test_the_documentation_can_send_requests_under_the_policy(page, site):
    page.goto(f"{site.gateway}/api/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    block = page.locator(".opblock-get").filter(has_text="/api/users").first
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()

    expect(block.locator(".live-responses-table td.response-col_status:not(.col_header)").first).to_contain_text("200")


@pytest.mark.parametrize("path", ["/", "/api", "/api/docs", "/api/users", "/api/orders"])
def test_every_page_of_the_gateway_has_the_policy(page, site, path):
    page.set_extra_http_headers({"Accept": "text/html"})
    answer = page.goto(f"{site.gateway}{path}")

    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
