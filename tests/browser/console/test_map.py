"""The map, Break it and the catalogue in a browser, of a system that `make demo ARGS=--open` leaves running."""

import contextlib
import json
import re
import secrets
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from playwright.sync_api import expect

from embedded.system import ROOT
from tests.browser.console.axe import findings
from tests.embedded.copies import Run, running
from tests.waiting import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.browser]

PAGES = ("/", "/break", "/catalogue", "/catalogue/services/orders", "/catalogue/runbook")
WIDTHS = (360, 2_560)
WELL = "All 13 parts work."
NODES = 13


@dataclass(frozen=True)
class System:
    run: Run
    console: str
    token: str
    gateway: str

    def sign_up(self) -> None:
        """A request to the gateway, which publishes an event."""
        body = json.dumps({"email": f"{secrets.token_hex(6)}@example.org", "name": "Ada"}).encode()
        request = urllib.request.Request(f"{self.gateway}/api/users", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 201

    def process(self, command: str, service: str) -> psutil.Process:
        """The process of a service that runs this command."""

        def found() -> psutil.Process | None:
            for process in self.run.family():
                with contextlib.suppress(psutil.Error):
                    if {command, f"--settings=settings.{service}"} <= set(process.cmdline()):
                        return process
            return None

        return eventually(found, what=f"{command} of {service}")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running(ROOT, "demo --open") as run:
        run.wait_for("Ctrl-C stops everything", within=300)
        address, token = re.search(r"Console\s+(http://\S+?)/\?token=(\S+)", run.output).groups()
        [gateway] = re.search(r"gateway\s+(http://\S+)", run.output[run.output.index("All as promised") :]).groups()
        yield System(run, address, token, gateway)


@pytest.fixture
def opened(browser, system) -> Iterator[Any]:
    """Opens pages of the console, with access. Fails the test at its end if a browser has reported an error."""
    contexts, broken = [], []

    def open_(path: str, **options: Any) -> Any:
        context = browser.new_context(base_url=system.console, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.on("pageerror", lambda error: broken.append(f"script: {error}"))
        page.on("console", lambda line: broken.append(f"console: {line.text}") if line.type == "error" else None)
        page.goto(f"{path}?token={system.token}")
        return page

    open_.broken = broken
    yield open_
    for context in contexts:
        context.close()
    assert broken == []


def node(page, name: str):
    return page.locator(f'[data-node="{name}"]')


def expect_level(page, name: str, level: str) -> None:
    expect(node(page, name)).to_have_class(re.compile(rf"\b{level}\b"))


class TestMap:
    def test_all_parts_are_shown_and_work(self, opened):
        page = opened("/")
        expect(page.locator("[data-text]")).to_have_text(WELL)
        expect(page.locator("[data-node]")).to_have_count(NODES)
        for name in ("gateway", "db:orders", "users-relay", "topic:payment.completed", "payments-consume"):
            expect_level(page, name, "good")

    def test_events_move_along_the_arrows_and_are_counted(self, opened, system):
        page = opened("/")
        page.evaluate(
            "() => { window.moved = new Set(); new MutationObserver(changes => changes.forEach(change => change.addedNodes"
            ".forEach(dot => window.moved.add(dot.getAttribute('class')))))"
            ".observe(document.querySelector('[data-moving]'), {childList: true}); }"
        )

        def moved() -> bool:
            system.sign_up()
            kinds = {name.removeprefix("moving ") for name in page.evaluate("() => [...window.moved]")}
            return {"http", "sql", "outbox", "kafka"} <= kinds

        eventually(moved, every=1.0)
        expect(node(page, "gateway")).to_contain_text(re.compile(r"/s.*P95"))
        expect(page.locator("[data-moving] > *")).to_have_count(0)

    def test_nothing_moves_for_who_does_not_want_it(self, opened, system):
        page = opened("/", reduced_motion="reduce")
        eventually(lambda: system.sign_up() or page.locator(".edge.busy").count(), every=1.0)
        assert page.locator("[data-moving] *").count() == 0
        assert page.evaluate("() => document.getAnimations().length") == 0

    def test_the_table_says_the_same(self, opened):
        page = opened("/")
        page.get_by_text("The same as a table").click()
        rows = page.locator("[data-row]")
        expect(rows).to_have_count(NODES)
        expect(rows.filter(has_text="orders-consume").locator("[data-state]")).to_have_text("good")

    def test_by_keyboard_from_a_node_to_what_it_is(self, opened):
        page = opened("/")
        node(page, "orders-relay").focus()
        name = page.evaluate("() => document.activeElement.getAttribute('aria-label')")
        assert name.startswith("orders-relay")
        assert ", relay, " in name
        page.keyboard.press("Enter")
        page.wait_for_url("**/catalogue#service-orders")
        expect(page.locator("#service-orders")).to_be_in_viewport()

    def test_a_console_that_is_killed_is_said_to_be_away_until_it_is_back(self, opened, system):
        page = opened("/")
        expect(page.locator("[data-text]")).to_have_text(WELL)
        system.process("console", service="console").kill()
        expect(page.locator("[data-lost]")).to_be_visible()
        expect(page.locator("[data-lost]")).to_be_hidden()
        expect(page.locator("[data-text]")).to_have_text(WELL)
        opened.broken[:] = [text for text in opened.broken if "ERR_" not in text]  # as the browser must report


class TestBreakIt:
    def test_a_killed_consumer_is_seen_on_the_map_and_so_is_its_recovery(self, opened, system):
        page = opened("/break")
        expect(page.locator("[data-text]")).to_have_text(WELL)
        killed = system.process("consume", service="orders")
        kill = page.get_by_role("button", name="Kill orders-consume")
        kill.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text("orders-consume is killed")
        expect_level(page, "orders-consume", "bad")
        expect(node(page, "orders-consume").locator("[data-note]")).to_have_text("down")
        expect(page.locator('[data-edge="topic:user.created→orders-consume"]')).to_have_class(re.compile(r"\bbroken\b"))
        expect(page.locator("[data-text]")).to_contain_text("orders-consume: down")
        assert "✕" in page.title()
        assert not killed.is_running() or killed.status() == psutil.STATUS_ZOMBIE
        system.sign_up()
        expect_level(page, "orders-consume", "good")
        expect(page.locator("[data-text]")).to_have_text(WELL)
        assert system.process("consume", service="orders").pid != killed.pid

    def test_a_frozen_relay_is_stuck_its_outbox_grows_and_it_continues(self, opened, system):
        page = opened("/break")
        page.get_by_label("For", exact=True).select_option("60")
        page.get_by_role("button", name="Freeze users-relay").click()
        expect_level(page, "users-relay", "stuck")
        expect(page.locator("#state-users-relay")).to_contain_text("frozen")
        for _ in range(3):
            system.sign_up()
        expect(node(page, "db:users")).to_contain_text("outbox 3")
        page.get_by_role("button", name="Resume users-relay").click()
        expect_level(page, "users-relay", "good")
        expect(node(page, "db:users")).to_contain_text("outbox 0")

    def test_without_kafka_requests_are_accepted(self, opened, system):
        page = opened("/break")
        page.get_by_label("For", exact=True).select_option("20")
        page.get_by_role("button", name="Freeze kafka").click()
        expect_level(page, "topic:order.created", "bad")
        system.sign_up()
        page.get_by_role("button", name="Resume kafka").click()
        expect(page.locator("[data-text]")).to_have_text(WELL)

    def test_requests_can_be_sent_from_here(self, opened):
        page = opened("/break")
        page.get_by_label("For", exact=True).select_option("5")
        page.get_by_role("button", name="Send requests").click()
        expect(page.locator("#said")).to_contain_text("requests are sent for 5 s")
        expect(page.locator('[data-edge="gateway→users"]')).to_have_class(re.compile(r"\bbusy\b"))
        expect(page.locator("#done")).to_contain_text(
            re.compile(r"\d+ requests were accepted, 0 failed"), timeout=120_000
        )

    def test_a_poisoned_record_becomes_a_dead_letter_on_the_map(self, opened):
        page = opened("/break")
        page.get_by_label("A record that cannot be processed").select_option("user.created|unreadable")
        page.get_by_role("button", name="Send it").click()
        expect(page.locator("#said")).to_contain_text("is poisoned")
        expect(node(page, "orders-consume")).to_contain_text("1 dead letter")
        expect_level(page, "orders-consume", "warn")

    def test_what_is_not_possible_is_said(self, opened, system):
        page = opened("/break")
        page.evaluate("() => { document.querySelector('[name=seconds]').options[0].value = '100000'; }")
        page.get_by_label("For", exact=True).select_option("5 seconds")
        page.get_by_role("button", name="Freeze payments", exact=True).click()
        expect(page.locator("#said")).to_contain_text("must last")

    def test_without_a_script(self, opened):
        page = opened("/break", java_script_enabled=False)
        page.get_by_role("button", name="Resume payments", exact=True).click()
        expect(page.locator("#said")).to_contain_text("payments continues")


class TestCatalogue:
    def test_events_with_schema_version_publisher_and_readers(self, opened):
        page = opened("/catalogue")
        event = page.locator('[id="event-order.created"]')
        expect(event).to_contain_text("v1")
        expect(event.get_by_role("row", name="items[].quantity")).to_contain_text("integer, minimum 1")
        expect(event.locator(".facts")).to_contain_text("orders")
        expect(event.locator(".facts")).to_contain_text("payments (group payments) reads")

    def test_versions_and_states_of_all_processes_appear(self, opened):
        page = opened("/catalogue")
        expect(page.locator("#memory-payments-consume")).to_contain_text("MiB")
        expect(page.locator("#version-gateway")).to_contain_text(re.compile(r"\w"))

    def test_settings_with_their_values_and_without_secrets(self, opened):
        page = opened("/catalogue")
        page.get_by_text("Handlers and settings of orders").click()
        more = page.locator("#more-orders")

        def row(name: str):
            return more.get_by_role("rowheader", name=name, exact=True).locator("..")

        expect(row("RETRY_ATTEMPTS")).to_be_visible()
        expect(row("SECRET_KEY").locator(".state")).to_have_text("secret")
        expect(more.get_by_role("table").first).to_contain_text("orders.handlers")
        expect(row("ORDERS_DATABASE_URL")).to_contain_text(re.compile(r"://orders:.{1,10}@|\[hidden\]|secret"))

    def test_the_api_in_swagger_ui(self, opened):
        page = opened("/catalogue/api")
        expect(page.locator(".opblock-summary-path", has_text="/api/orders").first).to_be_visible()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_nothing_serious_for_axe_in_swagger_ui_closed_and_open(self, opened, scheme):
        page = opened("/catalogue/api", color_scheme=scheme)
        expect(page.locator(".opblock-summary-path", has_text="/api/orders").first).to_be_visible()
        assert findings(page) == []
        closed = page.locator(".opblock-summary-control[aria-expanded=false]")
        number = closed.count()
        for _ in range(number):
            closed.first.click()
        expect(page.locator(".opblock-body .responses-wrapper")).to_have_count(number)
        for schema in page.locator(".models .json-schema-2020-12-expand-deep-button").all():
            schema.click()
        assert findings(page) == []

    def test_the_runbook_at_a_section(self, opened):
        page = opened("/catalogue")
        page.get_by_role("link", name="Runbook").click()
        page.get_by_role("link", name="Dead letters", exact=True).last.click()
        expect(page.locator("#dead-letters")).to_be_in_viewport()


class TestAllPages:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_nothing_serious_for_axe(self, opened, scheme):
        page = opened("/", color_scheme=scheme)
        for path in PAGES:
            page.goto(path)
            assert findings(page) == [], path

    @pytest.mark.parametrize("width", WIDTHS)
    def test_no_page_is_wider_than_the_screen(self, opened, width):
        page = opened("/", viewport={"width": width, "height": 800})
        for path in (*PAGES, "/catalogue/api"):
            page.goto(path)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width, path

    def test_the_start_page_leads_here_in_development(self, opened, system):
        page = opened("/")
        page.goto(system.gateway)
        page.get_by_role("link", name="Open the console").click()
        expect(page.get_by_role("heading", name="Live map")).to_be_visible()
        page.goto(system.gateway)
        assert findings(page) == []
