"""Django's admin in a browser."""

import json
import urllib.request
import uuid

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ADMIN, log_in

pytestmark = pytest.mark.browser


def test_users_are_added_found_changed_and_removed(page, site):
    log_in(page, site.users)
    name = f"Ada {uuid.uuid4()}"
    page.click(".model-user a.addlink >> nth=-1")
    page.fill("#id_email", f"{uuid.uuid4()}@example.org")
    page.fill("#id_name", name)
    page.click("input[name=_save]")
    expect(page.locator(".messagelist .success")).to_contain_text("was added successfully")

    page.fill("#searchbar", name)
    page.click("#changelist-search input[type=submit]")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.click("#result_list tbody th a")
    page.fill("#id_name", f"{name} II")
    page.click("input[name=_save]")
    expect(page.locator("#result_list")).to_contain_text(f"{name} II")

    page.click("#result_list tbody th a")
    page.click("a.deletelink")
    page.click("input[type=submit]")
    expect(page.locator(".messagelist .success")).to_contain_text("was deleted successfully")


def test_events_of_users_can_be_found(page, site):
    body = json.dumps({"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}).encode()
    headers = {"Content-Type": "application/json", "X-Request-Id": f"browser-{uuid.uuid4()}"}
    with urllib.request.urlopen(urllib.request.Request(f"{site.users}/users", body, headers), timeout=60) as answer:
        user = json.load(answer)

    log_in(page, site.users)
    for query in (user["id"], headers["X-Request-Id"]):
        page.goto(f"{site.users}/admin/messaging/outboxevent/?q={query}")
        expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.click("#result_list tbody th a")
    expect(page.locator("#content")).to_contain_text("user.created")
    expect(page.locator("input[name=_save]")).to_have_count(0)


def test_an_order_can_be_read_and_not_changed(page, site):
    body = json.dumps({"userId": "u1", "items": [{"productId": "tea-pot", "quantity": 2, "price": 19.99}]}).encode()
    request = urllib.request.Request(f"{site.orders}/orders", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        order = json.load(answer)

    log_in(page, site.orders)
    page.goto(f"{site.orders}/admin/orders/order/?q={order['id']}")
    page.click("#result_list tbody th a")

    for text in ("2 x tea-pot at 19.99", "39.98", "Pending", "u1"):
        expect(page.locator("#content")).to_contain_text(text)
    expect(page.locator("input[name=_save]")).to_have_count(0)


def test_the_inbox_exists(page, site):
    log_in(page, site.orders)
    page.goto(f"{site.orders}/admin/messaging/inboxevent/")

    expect(page.locator("#content")).to_contain_text("inbox event")


def test_a_wrong_password_does_not_log_in(page, site):
    page.goto(f"{site.users}/admin/")
    page.fill("#id_username", ADMIN[0])
    page.fill("#id_password", "wrong")
    page.click("input[type=submit]")

    expect(page.locator(".errornote")).to_be_visible()
