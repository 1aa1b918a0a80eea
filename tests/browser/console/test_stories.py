"""Stories in a real browser, of a real system: as they end, with retries and a dead letter, by keyboard, in all sizes."""

import json
import re
import secrets
import subprocess
import uuid
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.acceptance.faults import faults
from tests.browser.console.axe import findings
from tests.browser.console.running import running
from tests.console import spans
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def system(request):
    with running(request.config, "console-stories") as system:
        system.start("orders-consume", RETRY_ATTEMPTS="2", RETRY_BASE_SECONDS="0.2")
        with faults(system) as system.fault:
            yield system


@pytest.fixture(scope="module")
def redriven(system):
    """A story with a retry, a dead letter and a redrive that settled it."""
    one = Sent(system, "ada.redriven@example.org", refused=True)
    eventually(lambda: one.json().get("dead_letters") == 1, what="the dead letter")
    system.fault.accept_all()
    status, out = eventually(
        lambda: (done := system.manage("orders", "deadletters", "redrive", "--all")) and "redriven" in done[1] and done
    )
    assert status == 0, out
    return one.settled()


@pytest.fixture
def page(page, system):
    """A page with access to the console. Fails the test at its end if the browser has reported an error."""
    errors = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(system.console.url)
    yield page
    assert errors == []


class Sent:
    """A user that was created through the gateway, and the story of that."""

    def __init__(self, system, email=None, *, refused=False):
        self.system = system
        self.trace, self.request_id = uuid.uuid4().hex, f"req-{uuid.uuid4()}"
        if refused:
            system.fault.refuse("%")
        headers = {"traceparent": f"00-{self.trace}-{secrets.token_hex(8)}-01", "X-Request-Id": self.request_id}
        self.email = email or f"{uuid.uuid4().hex}@example.org"
        answer = system.client.post("/api/users", json={"email": self.email, "name": "Ada Secret"}, headers=headers)
        self.status, self.user_id = answer.status_code, answer.json().get("id")

    @property
    def path(self):
        return f"/stories/{self.trace}"

    def json(self):
        """What the console knows of it; empty until it knows something."""
        found = fetched(self.system, f"{self.path}.json")
        return found if "trace_id" in found else {"topics": [], "ids": [], "span_list": []}

    def settled(self):
        """The same story, once its order is paid."""
        eventually(
            lambda: "process payment.completed" in {span["name"] for span in self.json()["span_list"]},
            what="the payment",
        )
        return self


def fetched(system, path):
    """A JSON document of the console."""
    headers = {"Authorization": f"Bearer {system.console.token}"}
    return system.client.get(f"{base(system)}{path}", headers=headers).json()


def base(system):
    parts = urlsplit(system.console.url)
    return f"{parts.scheme}://{parts.netloc}"


def open_(page, system, path):
    page.goto(f"{base(system)}{path}")


def texts(page):
    """The texts of the diagram's rows."""
    return page.locator("#sequence .what").all_text_contents()


def test_stories_appear_as_they_end_and_can_be_filtered(page, system):
    open_(page, system, "/stories")
    one = Sent(system)
    row = page.locator(f"tr:has(#to-{one.trace})")
    expect(row).to_contain_text("POST /api/users")
    expect(row).to_contain_text("payments")
    expect(row.locator(".state")).to_have_text("ok")

    again = Sent(system, one.email)
    assert again.status == 409
    expect(page.locator(f"tr:has(#to-{again.trace}) .state")).to_have_text("rejected")
    page.select_option("select[name=state]", "rejected")
    expect(page.locator(f"#to-{one.trace}")).to_have_count(0)
    expect(page.locator(f"#to-{again.trace}")).to_have_count(1)
    assert page.url.endswith("/stories?state=rejected")
    # The stream obeys the filter too.
    third, fourth = Sent(system), Sent(system, one.email)
    expect(page.locator(f"#to-{fourth.trace}")).to_have_count(1)
    expect(page.locator(f"#to-{third.trace}")).to_have_count(0)
    page.go_back()
    expect(page.locator(f"#to-{third.trace}")).to_have_count(1)
    page.fill("input[name=route]", "/api/nothing")
    expect(page.locator("#story-rows")).to_contain_text("No story in memory is like this")
    expect(page.locator("#stories-status")).to_contain_text("0 shown")
    assert findings(page) == []


def test_the_diagram_shows_retry_dead_letter_redrive_and_settlement(page, system, redriven):
    steps = [
        "POST /api/users",
        "POST users",
        "INSERT users",
        "outbox: user.created waited",
        "send user.created to partition",
        "process user.created",
        "failed: ProgrammingError: no order for user",
        "attempt 2: process user.created",
        "dead letter after 2 attempts: ProgrammingError",
        "send user.created.orders.dlq",
        "redrive of dead letter",
        "process user.created, redriven",
        "send order.created",
        "process order.created",
        "send payment.completed",
        "process payment.completed",
    ]

    def is_whole() -> bool:
        open_(page, system, redriven.path)  # each process exports its spans when it likes
        shown = "\n".join(texts(page))
        assert re.search(".*".join(map(re.escape, steps)), shown, re.DOTALL), shown
        return True

    eventually(is_whole)
    lifelines = page.locator(".lifelines g").all_text_contents()
    assert {
        "gateway",
        "users",
        "userdb",
        "users-relay",
        "user.created",
        "orders-consume",
        "orderdb",
        "payment.completed",
    } <= set(lifelines)
    expect(page.locator("#state")).to_contain_text(re.compile("settled.*is (paid|failed)"))
    expect(page.locator("#settlement")).to_contain_text("settled")
    expect(page.locator("h1")).to_contain_text("dead-lettered")
    expect(page.locator(".lines")).to_contain_text("event dead-lettered")
    for topic in ("user.created", "user.created.orders.dlq", "order.created", "payment.completed"):
        expect(page.get_by_role("heading", name=topic, exact=False).first).to_be_visible()
    page.get_by_text("The steps as a table").click()
    expect(
        page.get_by_role("table", name="Steps in the order of time").get_by_text("redrive of dead letter")
    ).to_be_visible()
    assert findings(page) == []


def test_the_diagram_is_used_with_the_keyboard_alone(page, system, redriven):
    open_(page, system, redriven.path)
    expect(page.locator("#events-title + div")).to_contain_text("payment.completed")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#sequence') !== null"):
            break
    focused = page.locator("#sequence a:focus")
    expect(focused).to_have_attribute("aria-label", re.compile("POST /api/users; client to gateway"))
    page.keyboard.press("ArrowDown")
    expect(focused).to_have_attribute("aria-label", re.compile("POST users; gateway to users"))
    expect(page.locator("#detail h3")).to_have_text("POST users")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail")).to_contain_text("db.namespace")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#detail h3")).to_have_text("POST users")
    page.keyboard.press("e")
    page.keyboard.press("e")
    expect(focused).to_have_class(re.compile("failed"))
    page.keyboard.press("End")
    expect(page.locator("#detail")).to_contain_text("orders-consume")
    assert focused.bounding_box()
    # The permalink of a step shows it again.
    page.reload()
    expect(page.locator("#sequence a[aria-current]")).to_have_count(1)
    expect(page.locator("#detail")).to_contain_text("orders-consume")
    page.locator("#sequence a[aria-current]").focus()
    page.keyboard.press("Home")
    expect(page.locator("#detail h3")).to_have_text("POST /api/users")
    # By Tab, the diagram is left with one key.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#sequence') === null")
    assert findings(page) == []


def test_personal_data_is_shown_to_who_asks_and_the_service_logs_it(page, system):
    one = Sent(system, "grace.hidden@example.org").settled()
    open_(page, system, one.path)
    event = page.locator("article", has_text="user.created").first
    expect(event).to_contain_text('"email": "[hidden]"')
    expect(page.locator("#command")).to_contain_text('"email": "[hidden]"')
    assert one.email not in page.content()
    assert "Ada Secret" not in json.dumps(fetched(system, f"{one.path}.json?events=1"))
    assert system["users"].logged("personal data revealed") == []

    event.get_by_role("button", name="Show personal data").click()
    expect(event).to_contain_text(one.email)
    expect(event).to_contain_text("It is logged that")
    [logged] = eventually(lambda: system["users"].logged("personal data revealed"))
    assert logged["by"].endswith("(console)")
    assert logged["event_id"] in one.json()["ids"]

    page.locator("#repeat").get_by_role("button", name="Show personal data").click()
    expect(page.locator("#command")).to_contain_text(one.email)
    eventually(lambda: len(system["users"].logged("personal data revealed")) == 2)


def test_the_command_repeats_the_request(page, system):
    one = Sent(system).settled()
    open_(page, system, one.path)
    page.locator("#repeat").get_by_role("button", name="Show personal data").click()
    expect(page.locator("#command")).to_contain_text(one.email)
    command = page.locator("#command").text_content().replace(one.email, f"again-{one.email}")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert "201 Created" in done.stdout
    assert "Ada Secret" in done.stdout
    assert system.console.operator_token not in page.content()


def test_a_story_is_found_by_the_ids_of_its_user_and_order(page, system, redriven):
    for given in (redriven.user_id, redriven.request_id, redriven.json()["ids"][1], redriven.trace):
        open_(page, system, "/stories")
        page.get_by_label("Id of an order").fill(given)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{redriven.path}")
    # One that the console never saw is told from what the services know.
    page.goto("about:blank")
    system.kill_console()
    system.start_console()
    page.goto(system.console.url)
    open_(page, system, f"/stories/find?id={redriven.user_id}")
    expect(page.locator("main")).to_contain_text("No story with this id is in the console's memory")
    expect(page.locator("main")).to_contain_text(re.compile("settled.*is (paid|failed)"))
    assert findings(page) == []


def test_a_story_of_a_thousand_spans_is_readable(page, system):
    trace, start = spans.new_trace(), spans.START
    served = spans.span(
        trace, "POST orders", begun=start, ended=start + 3 * 10**9, attributes=spans.http("POST", "/orders", 201)
    )
    many = [
        spans.span(
            trace,
            ("SELECT products", "UPDATE stock")[n % 2],
            kind="CLIENT",
            parent=served.span_id.hex(),
            begun=start + n * 2_900_000,
            ended=start + n * 2_900_000 + 1_000_000,
            attributes={"db.system.name": "postgresql", "db.namespace": "orderdb", "db.query.text": str(n % 2)},
        )
        for n in range(1_000)
    ]
    headers = {"Authorization": f"Bearer {system.console.token}", "Content-Type": "application/x-protobuf"}
    body = spans.request(served, *many, service="orders").SerializeToString()
    assert system.client.post(f"{base(system)}/v1/traces", content=body, headers=headers).status_code == 200

    open_(page, system, f"/stories/{trace}")
    folds = page.locator("#sequence a.fold")
    expect(folds).to_have_count(2)
    expect(folds.first).to_contain_text("497 times SELECT products")
    assert len(texts(page)) < 20
    folds.first.click()
    expect(page.locator("#sequence a.fold")).to_have_count(1)
    assert len(texts(page)) > 500
    page.get_by_text("Show all").click()
    expect(page.locator("#sequence a.fold")).to_have_count(0)
    page.locator("#sequence a").first.focus()
    page.keyboard.press("End")
    expect(page.locator("#detail")).to_contain_text("POST orders")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 2560])
def test_all_sizes_and_both_schemes(page, system, width, scheme):
    one = Sent(system).settled()
    eventually(
        lambda: open_(page, system, one.path) or "POST /api/users" in texts(page), what="the spans of the gateway"
    )
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    for path in ("/stories", one.path):
        open_(page, system, path)
        page.wait_for_load_state("load")
        # What is wider than the page scrolls in itself.
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        if path == one.path:
            expect(page.locator("#command")).to_be_visible()
            expect(page.locator("article")).to_have_count(3)
            page.locator("#sequence a").first.click()
            expect(page.locator("#detail h3")).to_have_text("POST /api/users")
        assert findings(page) == []


def test_a_service_that_is_away_is_told_and_the_rest_stays(page, system):
    one = Sent(system).settled()
    eventually(
        lambda: open_(page, system, one.path) or "POST /api/users" in texts(page), what="the spans of the gateway"
    )
    system["users"].kill9()
    try:
        open_(page, system, one.path)
        expect(page.locator("#state")).to_contain_text("Not complete: users")
        expect(page.locator("main")).to_contain_text("The service users cannot be reached")
        expect(page.locator("article", has_text="order.created").first).to_be_visible()
        assert "POST /api/users" in texts(page)
        assert findings(page) == []
    finally:
        system.restore()
        system.start("orders-consume", RETRY_ATTEMPTS="2", RETRY_BASE_SECONDS="0.2")
