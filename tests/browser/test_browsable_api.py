"""REST framework's pages, directly and behind the gateway's prefix."""

import json
import re
import urllib.request
import uuid

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture(params=["directly", "through the gateway"])
def users(site, request):
    return f"{site.users}/users" if request.param == "directly" else f"{site.gateway}/api/users"


@pytest.fixture(params=["directly", "through the gateway"])
def orders(site, request):
    return f"{site.orders}/orders" if request.param == "directly" else f"{site.gateway}/api/orders"


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def create(page, users, email, name="Ada Lovelace"):
    page.goto(users)
    page.click("a[name=html-tab]")
    page.fill("#post-object-form input[name=email]", email)
    page.fill("#post-object-form input[name=name]", name)
    page.click("#post-object-form button:has-text('POST')")


def shown(page):
    """The JSON on the page."""
    text = page.inner_text(".response-info")
    return json.loads(text[text.index("\n\n") :])


def test_the_html_form_creates_a_user(page, users):
    email = f"{uuid.uuid4()}@example.org"

    create(page, users, email)

    expect(page.locator(".response-info")).to_contain_text("HTTP 201 Created")
    assert shown(page)["email"] == email
    assert urllib.request.urlopen(f"{users}/{shown(page)['id']}", timeout=60).status == 200


def test_errors_are_shown_next_to_their_fields(page, users):
    page.goto(users)
    page.click("a[name=html-tab]")
    page.fill("#post-object-form input[name=email]", f"{uuid.uuid4()}@example.org")
    page.fill("#post-object-form input[name=name]", "   ")
    page.click("#post-object-form button:has-text('POST')")

    expect(page.locator(".response-info")).to_contain_text("HTTP 400 Bad Request")
    expect(page.locator("#post-object-form .has-error")).to_contain_text("may not be blank")


def test_a_taken_email_is_reported(page, users):
    email = f"{uuid.uuid4()}@example.org"
    post(users, {"email": email, "name": "Ada"})

    create(page, users, email.upper())

    expect(page.locator(".response-info")).to_contain_text("HTTP 409 Conflict")
    assert shown(page)["errors"] == {"email": ["This email is taken."]}


def test_change_and_delete_on_a_users_own_page(page, users):
    user = post(users, {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
    page.goto(f"{users}/{user['id']}")
    page.click("a[name=html-tab]")
    page.fill("#put-object-form input[name=name]", "Countess of Lovelace")
    page.click("#put-object-form button:has-text('PUT')")
    expect(page.locator(".response-info")).to_contain_text('"name": "Countess of Lovelace"')

    page.click("button[data-target='#deleteModal']")
    page.click("#deleteModal button:has-text('Delete')")
    expect(page.locator(".response-info")).to_contain_text("HTTP 204 No Content")

    page.goto(f"{users}/{user['id']}")
    expect(page.locator(".response-info")).to_contain_text("HTTP 404 Not Found")


def test_styles_and_scripts_exist(page, users):
    page.goto(users)

    navigation = page.locator(".navbar").evaluate("bar => getComputedStyle(bar).position")
    assert navigation in {"fixed", "absolute"}
    assert page.evaluate("typeof jQuery") == "function"


def test_links_resolve_to_pages(page, users):
    for _ in range(3):
        post(users, {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
    page.goto(f"{users}?limit=1")
    first = shown(page)["results"]

    page.click("ul.pager a[rel=next], .pager .next a, a:has-text('Next')")

    expect(page).to_have_url(re.compile(re.escape(users) + r"\?.*cursor="))
    assert shown(page)["results"] != first
    page.click(".breadcrumb a")
    expect(page).to_have_url(users)


def test_the_list_as_json_from_the_menu(page, users):
    page.goto(users)
    page.click(".format-selection button")
    page.click(".format-option:has-text('json')")

    assert "results" in json.loads(page.inner_text("body"))


def test_an_order_as_raw_json(page, orders):
    order = {"userId": "u1", "items": [{"productId": "tea-pot", "quantity": 2, "price": 19.99}]}
    page.goto(orders)
    page.fill("textarea[name=_content]", json.dumps(order))
    page.click("form:has(textarea[name=_content]) button:has-text('POST')")

    expect(page.locator(".response-info")).to_contain_text("HTTP 201 Created")
    assert shown(page)["totalAmount"] == 39.98
    assert shown(page)["items"] == order["items"]
