"""Several tabs of one browser, and its history, with a console that runs alone."""

import pytest
from playwright.sync_api import expect

from tests.console import spans
from tests.console.running import TOKEN, running

pytestmark = pytest.mark.browser

PER_HOST = 6
"""How many connections to a host Chromium keeps."""


@pytest.fixture(scope="module")
def console():
    with running() as console:
        yield console


@pytest.fixture
def tab(browser, console):
    """Opens tabs of one browser. Fails the test at its end if a script failed."""
    context = browser.new_context(base_url=console.url)
    context.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    broken = []

    def open_(path):
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(path)
        return page

    open_(f"/catalogue?token={TOKEN.replace(' ', '%20')}").close()
    yield open_
    context.close()
    assert broken == []


def hide(page, hidden):
    """Let a page believe that its tab is in the background, or is not: without windows, all of them are visible."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            Object.defineProperty(document, "visibilityState", {value: hidden ? "hidden" : "visible", configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


@pytest.mark.parametrize("path", ["/", "/stories"])
def test_hidden_tabs_do_not_keep_others_from_loading(tab, console, path):
    hidden = []
    for _ in range(PER_HOST):
        page = tab(path)
        hide(page, True)
        hidden.append(page)
    last = tab(path)
    expect(last.get_by_role("heading", level=1)).to_be_visible()
    # Once it is visible again, a page is up to date and stays it.
    with hidden[0].expect_request("**/stream*"):
        hide(hidden[0], False)
    if path == "/stories":
        for page in (hidden[0], last):
            trace = spans.new_trace()
            root = spans.span(trace, "GET /api/orders", attributes=spans.http("GET", "/api/orders", 200))
            console.export(spans.request(root, service="gateway", role="gateway").SerializeToString())
            expect(page.locator(f"#to-{trace}")).to_be_visible()


def test_back_after_a_filter_is_the_page_before(tab):
    page = tab("/dead-letters")
    page.get_by_label("State").select_option("all")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**state=all**")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
    expect(page.get_by_role("button", name="Search")).to_be_visible()


def test_the_same_filter_twice_is_one_entry_of_the_history(tab):
    page = tab("/stories")
    before = page.evaluate("history.length")
    page.select_option("select[name=state]", "failed")
    page.wait_for_url("**state=failed")
    with page.expect_response("**/stories?state=failed"):
        page.get_by_role("button", name="Filter").click()
    page.select_option("select[name=state]", "ok")
    page.wait_for_url("**state=ok")
    assert page.evaluate("history.length") == before + 2
    page.go_back()
    expect(page.locator("select[name=state]")).to_have_value("failed")
