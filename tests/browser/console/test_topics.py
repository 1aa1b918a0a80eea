"""Topics, records, consumer groups and dead letters in a browser, with all processes running."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from playwright.sync_api import expect

from tests.browser.console.axe import findings
from tests.browser.console.running import running
from tests.waiting import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.browser]

WIDTHS = (360, 2_560)
SCHEMA = "urn:events:user.created:v1"


@pytest.fixture(scope="module")
def system(request) -> Iterator[Any]:
    with running(request.config, "console-topics") as system:
        yield system


@pytest.fixture
def page(browser, system) -> Iterator[Any]:
    """A page of the console, logged in. Fails the test at its end if a script or a request failed, or the console said so."""
    context = browser.new_context(base_url=system.console.url.partition("/?")[0])
    page = context.new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(f"script: {error}"))
    page.on("console", lambda line: broken.append(f"console: {line.text}") if line.type == "error" else None)
    # Leaving a page aborts its last poll.
    page.on(
        "requestfailed",
        lambda one: broken.append(f"{one.url}: {one.failure}") if "ABORTED" not in str(one.failure) else None,
    )
    page.goto(system.console.url_of("/topics"))
    page.broken = broken
    yield page
    context.close()
    assert broken == []


def event(key: str, value: bytes | None = None, **headers: str) -> tuple[str, bytes, list[tuple[str, str]]]:
    content = {"userId": key, "email": "ada@example.org", "name": "Ada", "createdAt": "2026-11-30T07:00:00Z"}
    known = {
        "ce_id": str(uuid.uuid4()),
        "ce_source": "/users",
        "ce_type": "user.created",
        "ce_dataschema": SCHEMA,
        "content-type": "application/json",
    }
    return key, json.dumps(content).encode() if value is None else value, list((known | headers).items())


def send(system, *events) -> None:
    producer = Producer({"bootstrap.servers": system.engines.kafka.bootstrap_servers})
    for key, value, headers in events:
        producer.produce("user.created", value, key, headers=headers)
    assert producer.flush(60) == 0


def new_user(system) -> dict[str, Any]:
    """A user whose welcome order has been paid or has failed."""
    user = system.client.post(
        "/api/users", json={"email": f"{uuid.uuid4()}@example.org", "name": "Grace Hopper"}
    ).json()
    eventually(lambda: orders_of(system, user["id"])[0]["status"] != "pending")
    return user


def orders_of(system, user_id: str) -> list[dict[str, Any]]:
    orders = system.client.get("/api/orders", params={"userId": user_id}).json()["results"]
    assert orders
    return orders


def check(page) -> None:
    """Nothing serious for axe-core in both schemes, and no page wider than the window."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert findings(page) == []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"wider than {width} px"
    page.set_viewport_size({"width": 1_280, "height": 900})


def tab_to(page, locator) -> None:
    """Press Tab until the focus is here."""
    for _ in range(100):
        if locator.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("not reached by Tab")


class TestTopics:
    def test_the_list_is_used_with_the_keyboard_while_it_is_refreshed(self, page, system):
        new_user(system)
        page.reload()
        expect(page.get_by_role("table", name="Events")).to_contain_text("user.created")
        expect(page.get_by_role("table", name="Dead letters")).to_contain_text("user.created.orders.dlq")
        check(page)
        link = page.locator("#topic-user\\.created")
        tab_to(page, link)
        with page.expect_response(lambda answer: answer.url.endswith("/topics") and answer.status == 200):
            pass  # the next refresh
        expect(page.locator("[id='topic-user.created']")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("user.created")
        check(page)

    def test_search_and_older_pages_with_the_keyboard(self, page, system):
        key = f"many-{uuid.uuid4()}"
        send(system, *(event(key, number=str(number)) for number in range(120)))
        page.goto("/topics/user.created")
        page.get_by_label("Key").fill(key)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**key={key}**")
        rows = page.locator(".records tbody tr:not(.more)")
        expect(rows).to_have_count(50)
        newest = int(rows.first.locator("td").nth(2).inner_text())
        for expected in (100, 120):
            tab_to(page, page.locator("#next"))
            page.keyboard.press("Enter")
            expect(rows).to_have_count(expected)
            # htmx moves the focus to the new #next, and only then makes it more than a link; the page moves it to a row.
            expect(rows.locator("a:focus")).to_have_count(1)
        offsets = [int(text) for text in rows.locator("td:nth-child(3)").all_inner_texts()]
        assert offsets == list(range(newest, newest - 120, -1))
        expect(page.locator("#more")).to_contain_text("Looked at")

        page.get_by_label("Header").fill("number=77")
        page.get_by_role("button", name="Search").click()
        expect(rows).to_have_count(1)
        page.wait_for_url("**number%3D77**")
        page.get_by_label("Header").fill("")
        page.get_by_label("Text").fill("ADA@example.org")
        page.get_by_role("button", name="Search").click()
        expect(rows).to_have_count(50)
        assert "ada@example.org" not in page.content()

    def test_back_after_a_search_is_the_page_before(self, page, system):
        send(system, event("k"))
        page.goto("/topics/user.created")
        page.get_by_label("Text").fill("nowhere-to-be-found")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#more")).to_contain_text("No record found")
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_have_text("user.created")
        expect(page.get_by_label("Text")).to_have_value("")
        expect(page.locator(".records tbody tr").first).to_contain_text("[hidden]")
        page.get_by_label("Text").fill("nowhere-to-be-found")
        page.keyboard.press("Enter")
        expect(page.locator("#more")).to_contain_text("No record found")

    def test_a_search_without_a_result_says_how_far_it_looked(self, page, system):
        send(system, event("k"))
        page.goto("/topics/user.created?text=nowhere-to-be-found")
        expect(page.locator("#more")).to_contain_text(
            re.compile(r"No record found. Looked at \d+ records? .*that is all")
        )
        check(page)


class TestRecord:
    def test_what_is_known_of_a_record_and_publishing_it_again(self, page, system):
        user = new_user(system)
        page.goto(f"/topics/user.created?key={user['id']}")
        page.locator(".records tbody a").first.click()
        content = page.locator("#content-of-record")
        expect(content).to_contain_text('"email": "[hidden]"')
        effects = page.locator("#effects")
        expect(effects).to_contain_text("valid")
        expect(effects).to_contain_text(SCHEMA)
        expect(effects).to_contain_text("in its inbox since")

        def is_passed() -> bool:
            """The offset is committed a moment after the event was processed."""
            page.goto(page.url)
            return "passed" in effects.inner_text()

        assert eventually(is_passed)
        check(page)
        assert "Grace Hopper" not in page.content()

        page.get_by_role("button", name="Show personal data").press("Enter")
        expect(content).to_contain_text("Grace Hopper")
        expect(page.locator("#payload")).to_be_focused()

        trace = content.locator("a[href^='/stories/']").inner_text()
        assert re.fullmatch("[0-9a-f]{32}", trace)
        page.get_by_role("link", name="Publish again").click()
        check(page)
        page.get_by_label("Your name").fill("Ada Łovelace")
        page.get_by_role("button", name="Publish it again").click()
        rows = page.locator(".records tbody tr:not(.more)")

        def is_twice() -> bool:
            page.reload()
            return rows.count() == 2

        assert eventually(is_twice)
        assert len(orders_of(system, user["id"])) == 1
        [line] = eventually(lambda: system["users"].logged("event published again", key=user["id"]))
        assert line["by"] == "Ada Łovelace"
        duplicate = eventually(lambda: system["orders-consume"].logged("duplicate event skipped", key=user["id"]))
        assert duplicate

    def test_only_an_inbox_makes_publishing_again_harmless(self, page, system):
        user = new_user(system)
        order = orders_of(system, user["id"])[0]["id"]
        for topic, reason in (
            ("order.created", "payments has no inbox"),
            ("payment.completed", "payments publishes without an outbox"),
        ):
            page.goto(f"/topics/{topic}?key={order}")
            page.locator(".records tbody a").first.click()
            expect(page.locator("#effects")).to_contain_text(reason)
            expect(page.get_by_role("link", name="Publish again")).to_have_count(0)

    def test_binary_is_shown_when_it_is_asked_for(self, page, system):
        key = f"binary-{uuid.uuid4()}"
        send(system, event(key, b"\xff\x00 junk"))
        page.goto(f"/topics/user.created?key={key}")
        expect(page.locator(".records")).to_contain_text("binary: hidden")
        page.locator(".records tbody a").first.click()
        expect(page.locator("#effects")).to_contain_text("it is not JSON")
        page.get_by_role("button", name="Show personal data").click()
        expect(page.locator("#content-of-record")).to_contain_text("ff 00 20 6a 75 6e 6b")


class TestGroups:
    def test_a_consumer_that_is_gone_and_back(self, page, system):
        new_user(system)
        page.goto("/groups")
        expect(page.locator("#list")).to_contain_text("payments")
        check(page)
        page.get_by_role("link", name="orders", exact=True).click()
        expect(page.locator("#list")).to_contain_text("1 member")
        expect(page.get_by_role("table", name="Members")).to_contain_text("127.0.0.1")
        check(page)
        system.end(["orders-consume"])
        try:
            send(system, event(str(uuid.uuid4())))
            expect(page.locator("#list")).to_contain_text("No consumer of this group runs")
            expect(page.locator("#list")).to_contain_text("lag 1")
            check(page)
        finally:
            system.start("orders-consume")
        expect(page.locator("#list")).to_contain_text("1 member, lag 0")


def dead_letters(page, key: str, **filters: str):
    """The page of dead letters for a key; returns the rows."""
    query = "&".join(f"{name}={value}" for name, value in {"key": key, **filters}.items())
    page.goto(f"/dead-letters?{query}")
    expect(page.locator("#list [role=status]")).to_be_visible()
    return page.locator("#list tbody tr")


def die(page, system, *events) -> None:
    """Send events that cannot be read, and wait for their dead letters."""
    send(system, *events)
    for key in {key for key, _, _ in events}:
        number = sum(one[0] == key for one in events)
        assert eventually(lambda key=key, number=number: is_listed(page, key, number), within=120)


def is_listed(page, key: str, number: int) -> bool:
    dead_letters(page, key)
    return f"{number} unresolved" in page.locator("#list").inner_text()


class TestDeadLetters:
    def test_groups_by_cause_and_a_redrive_with_preview_rate_and_progress(self, page, system):
        key = f"dead-{uuid.uuid4()}"
        # No other test has dead letters of the cause of the first ones: the group has no others.
        unknown = {"ce_dataschema": "urn:events:user.created:v9"}
        die(page, system, *(event(key, **unknown) for _ in range(6)), event(key, b"\xff"))
        rows = page.locator("#list tbody tr")
        expect(rows).to_have_count(2)
        check(page)
        broken = rows.filter(has_text="this service reads")
        expect(broken.locator(".number")).to_have_text("6")
        tab_to(page, broken.get_by_role("link"))
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("6 . Unreadable"))
        page.get_by_role("link", name="the whole group").click()
        check(page)

        tab_to(page, page.get_by_role("button", name="Redrive all 6"))
        page.keyboard.press("Enter")
        expect(page.get_by_role("table", name="These")).to_contain_text(key)
        check(page)
        self._name(page)
        page.get_by_label("Why").fill("the reader was repaired")
        page.get_by_label("At most per second").fill("2")
        page.get_by_role("button", name="Redrive 6").press("Enter")
        progress = page.locator("#run")
        expect(progress).to_contain_text("running")
        check(page)
        expect(progress).to_contain_text("6 of 6 redriven")
        expect(progress).to_contain_text("finished")
        page.get_by_role("link", name="All dead letters").click()
        # They could not be read this time either, and say so.
        assert eventually(lambda: is_listed(page, key, 7), within=120)
        dead_letters(page, key, state="resolved").first.get_by_role("link").click()
        page.locator("form tbody th a").first.click()
        expect(page.locator("main")).to_contain_text("redriven by Ada Lovelace")
        expect(page.locator("main")).to_contain_text("the reader was repaired")
        check(page)

    def test_back_after_a_search_is_the_page_before(self, page):
        page.goto("/dead-letters")
        expect(page.locator("#list [role=status]")).to_be_visible()
        page.get_by_label("State").select_option("all")
        page.get_by_role("button", name="Search").click()
        page.wait_for_url("**state=all**")
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
        expect(page.get_by_label("State")).to_have_value("unresolved")
        expect(page.locator("#list [role=status]")).to_be_visible()

    def test_a_run_is_stopped(self, page, system):
        key = f"stop-{uuid.uuid4()}"
        die(page, system, *(event(key, b"\xff %d" % number) for number in range(5)))
        page.locator("#list tbody a").first.click()
        page.get_by_role("button", name="Discard the selected").click()
        self._name(page)
        page.get_by_label("At most per second").fill("0.2")
        page.get_by_role("button", name="Discard 5").click()
        expect(page.locator("#run")).to_contain_text("1 of 5")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#run")).to_contain_text("stopped")
        rows = dead_letters(page, key)
        assert 0 < int(rows.locator(".number").inner_text()) < 5

    def test_the_selected_ones_are_discarded_in_the_name_that_was_asked_once(self, page, system):
        key = f"discard-{uuid.uuid4()}"
        die(page, system, *(event(key, b"\xff %d" % number) for number in range(3)))
        page.locator("#list tbody a").first.click()
        page.get_by_role("link", name="the whole group").click()
        page.get_by_role("button", name="Discard the selected").click()
        expect(page.get_by_role("alert")).to_have_text("No dead letter was selected.")
        page.broken.clear()  # the console reports the status of that page
        page.go_back()
        chosen = page.locator("form tbody tr").filter(has_text=key)
        for number in (0, 1):
            chosen.nth(number).get_by_role("checkbox").check()
        page.get_by_role("button", name="Discard the selected").click()
        self._name(page)
        page.get_by_role("button", name="Discard 2").click()
        expect(page.locator("#run")).to_contain_text("2 of 2 discarded")
        expect(dead_letters(page, key).locator(".number")).to_have_text("1")
        page.locator("#list tbody a").first.click()
        page.get_by_role("button", name="Discard the selected").click()
        expect(page.locator("main")).to_contain_text("In the name of Ada Lovelace")
        page.get_by_role("button", name="Discard 1").click()
        expect(page.locator("#run")).to_contain_text("finished")

    def test_what_died_after_the_preview_is_left_as_it_is(self, page, system):
        key = f"later-{uuid.uuid4()}"
        unknown = {"ce_dataschema": f"urn:events:user.created:v{uuid.uuid4().int % 10**6 + 10}"}
        die(page, system, *(event(key, **unknown) for _ in range(2)))
        page.locator("#list tbody a").first.click()
        page.get_by_role("link", name="the whole group").click()
        number = int(page.get_by_role("heading", level=1).inner_text().split()[0])
        page.get_by_role("button", name=f"Discard all {number}").click()
        expect(page.get_by_role("button", name=f"Discard {number}")).to_be_visible()
        other = page.context.new_page()
        die(other, system, event(f"{key}-after", **unknown))
        other.close()
        self._name(page)
        page.get_by_role("button", name=f"Discard {number}").click()
        expect(page.locator("#run")).to_contain_text(f"{number} of {number} discarded")
        page.go_back()
        expect(page.get_by_role("button", name="Discard 1")).to_be_visible()
        expect(dead_letters(page, f"{key}-after").locator(".number")).to_have_text("1")

    def test_edited_and_redriven_with_a_link_to_the_original(self, page, system):
        user_id = str(uuid.uuid4())
        die(page, system, event(user_id, b'{"userId": 7, "email": "ada@example.org"}'))
        page.locator("#list tbody a").first.click()
        page.locator("form tbody th a").first.click()
        expect(page.locator("#content-of-record")).to_contain_text('"email": "[hidden]"')
        check(page)
        letter_id = page.url.rpartition("/")[2]
        page.get_by_role("button", name="Edit and redrive").click()
        payload = page.get_by_label("Payload")
        expect(payload).to_have_value(re.compile(r'"userId": 7'))
        self._name(page)
        page.get_by_label("Why").fill("its id was a number")
        page.get_by_role("button", name="Check it").click()
        expect(page.get_by_role("alert")).to_contain_text("could not read it")
        page.broken.clear()
        check(page)
        good = json.dumps(
            {"userId": user_id, "email": "ada@example.org", "name": "Ada", "createdAt": "2026-11-30T07:00:00Z"}
        )
        payload.fill(good)
        page.get_by_role("button", name="Check it").click()
        expect(page.locator("main")).to_contain_text("accepted")
        page.get_by_role("button", name="Redrive it").click()
        expect(page.locator("main")).to_contain_text("redriven by Ada Lovelace")
        expect(page.locator("main")).to_contain_text("edited: its id was a number")
        assert eventually(lambda: orders_of(system, user_id))

        # Both are kept: the original beside its resolution, and the edited one on the topic.
        expect(page.locator("#content-of-record pre[aria-label=Payload]")).to_contain_text('"userId": 7')
        page.goto(f"/topics/user.created?key={user_id}")
        edited = page.locator(".records tbody tr").filter(has_text="redriven")
        edited.locator("a").first.click()
        expect(page.locator(".headers")).to_contain_text(letter_id)
        expect(page.locator("#effects")).to_contain_text("valid")

    def test_a_service_that_is_away_is_named(self, page, system):
        system.end(["payments"])
        try:
            dead_letters(page, "nobody")
            expect(page.get_by_role("alert")).to_contain_text("The dead letters of payments are not shown")
            expect(page.locator("#list")).to_contain_text("No dead letter in the services that respond")
            check(page)
            page.goto("/dead-letters/payments/groups/0123456789abcdef")
            expect(page.get_by_role("alert")).to_contain_text("payments cannot be reached")
            page.broken.clear()
        finally:
            system.start("payments")

    def _name(self, page) -> None:
        """Say who it is, if the console asks."""
        if page.get_by_label("Your name").is_visible():
            page.get_by_label("Your name").fill("Ada Lovelace")
