"""Dead letters and parked rows in the admin of orders, in a browser."""

import itertools
import re
import sys
import uuid
from dataclasses import dataclass

import psycopg
import pytest
from playwright.sync_api import expect

from chassis.deadletters.record import FailedRecord
from chassis.events.envelope import Unreadable
from chassis.kafka import names
from chassis.kafka.records import Record
from tests.browser.conftest import ADMIN, log_in
from tests.chassis.support import dead_letters
from tests.chassis.support.kafka_helpers import headers
from tests.serving import run

pytestmark = [pytest.mark.browser, pytest.mark.service("orders")]

SECRET = "hunter2"
TOPIC = "user.created"
OFFSETS = itertools.count(7)  # a letter's id is a function of where its event stood


@pytest.fixture(scope="module")
def topics(site) -> None:
    """The one that users publishes and orders consumes, and its dead-letter topic."""
    for service in ("users", "orders"):
        environment = {**site.orders_environment, "DJANGO_SETTINGS_MODULE": f"settings.{service}"}
        run([sys.executable, "manage.py", "topics"], environment)


@dataclass(frozen=True)
class Written:
    """A letter that stands on its topic."""

    id: str
    key: str
    trace_id: str


def write(error: Exception, value: bytes = b'{"userId": "u1", "name": "Ada"}') -> Written:
    """An event of its own key has died."""
    key, trace_id = f"browser-{uuid.uuid4()}", uuid.uuid4().hex
    kept = [("ce_id", key.encode()), ("requestId", b"req-1"), ("traceId", trace_id.encode())]
    try:
        raise error
    except type(error) as raised:
        letter = FailedRecord(Record(TOPIC, 3, next(OFFSETS), key.encode(), value, kept, 1_000), raised, 3)
    [letter_id] = dead_letters.write(names.dead_letter_topic(TOPIC, "orders"), letter)
    return Written(letter_id, key, trace_id)


@pytest.fixture
def failed(topics, service) -> Written:
    return write(ValueError(f"cannot reach postgresql://orders:{SECRET}@host/orderdb"))


@pytest.fixture
def junk(topics, service) -> Written:
    return write(Unreadable("it is junk"), b"\xff junk")


@pytest.fixture
def admin(page, site):
    log_in(page, site.orders)
    return page


def rows(page, text: str):
    return page.locator("#result_list tbody tr", has_text=text)


def open_list(page, **filters: str) -> None:
    """From the first page, through the menu; then the form is filled in."""
    page.click(".model-deadletter a >> nth=0")
    for name, value in filters.items():
        field = page.locator(f"[name={name}]")
        field.select_option(value) if name in {"reason", "topic"} else field.fill(value)
    page.click("input[value=Filter]")


def came_back(letter: Written) -> int:
    """How often an event is on its topic again."""
    return sum(headers(message).get("deadletter-redriven") == letter.id for message in dead_letters.everything(TOPIC))


def test_the_list_is_narrowed_by_reason(admin, failed, junk):
    open_list(admin, reason="unreadable")
    expect(rows(admin, junk.key)).to_have_count(1)
    expect(rows(admin, junk.key)).to_contain_text("it is junk")
    expect(rows(admin, failed.key)).to_have_count(0)

    admin.select_option("[name=reason]", "handler")
    admin.click("input[value=Filter]")
    expect(rows(admin, failed.key)).to_have_count(1)
    expect(rows(admin, junk.key)).to_have_count(0)


def test_all_details_of_one_without_secrets(admin, failed):
    open_list(admin, key=failed.key)
    rows(admin, failed.key).locator("th a").click()

    expect(admin.locator("#content")).to_contain_text('"name": "[hidden]"')
    admin.click("text=Show personal data")
    for text in (
        '"name": "Ada"',
        "ValueError",
        "Traceback",
        "test_deadletters.py",
        failed.trace_id,
        "req-1",
        "handler",
    ):
        expect(admin.locator("#content")).to_contain_text(text)
    assert SECRET not in admin.content()


def test_redriven_from_the_list_once_it_is_confirmed(admin, failed, junk):
    open_list(admin, key=failed.key)
    rows(admin, failed.key).locator("input[type=checkbox]").check()
    admin.click("button[value=redrive]")
    expect(admin.locator("#chosen li")).to_have_count(1)
    expect(admin.locator("#chosen")).to_contain_text(failed.key)
    admin.click("text=No, take me back")
    expect(rows(admin, failed.key)).to_have_count(1)
    assert came_back(failed) == 0

    rows(admin, failed.key).locator("input[type=checkbox]").check()
    admin.click("button[value=redrive]")
    admin.click("text=Yes, I am sure")
    expect(admin.locator(".messagelist .success")).to_have_text("1 redriven.", timeout=60_000)
    expect(rows(admin, failed.key)).to_have_count(0)
    expect(rows(admin, junk.key)).to_have_count(1)
    assert came_back(failed) == 1


def test_discarded_from_its_own_page_with_the_users_name(admin, site, junk):
    open_list(admin, key=junk.key)
    rows(admin, junk.key).locator("th a").click()
    its_page = admin.url
    admin.click("button[value=discard]")
    admin.click("text=Yes, I am sure")
    expect(admin.locator(".messagelist .success")).to_have_text("1 discarded.", timeout=60_000)
    expect(rows(admin, junk.key)).to_have_count(0)

    admin.goto(its_page)
    expect(admin.locator("#content")).to_contain_text(f"discarded by {ADMIN[0]}")
    expect(admin.locator("button[value=redrive]")).to_have_count(0)
    assert came_back(junk) == 0


@pytest.fixture
def parked(site) -> str:
    """The key of a row that the broker will never take."""
    key = f"parked-{uuid.uuid4()}"
    with psycopg.connect(site.orders_environment["ORDERS_DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "INSERT INTO outbox (event_id, topic, key, payload, headers, request_id, parked_at, parked_reason)"
            " VALUES (gen_random_uuid(), 'order.created', %s, '{}', '[]', 'r', now(), '2000000 bytes')",
            [key],
        )
    return key


def choose(page, site, key: str, action: str) -> None:
    """The one parked row of this key, and what is to become of it."""
    page.goto(f"{site.orders}/admin/messaging/outboxevent/?state=parked&q={key}")
    expect(rows(page, "2000000 bytes")).to_have_count(1)
    page.check("#result_list tbody input[type=checkbox]")
    page.select_option("select[name=action]", action)
    page.click("button[name=index]")


def test_a_parked_row_is_retried(admin, site, parked):
    choose(admin, site, parked, "retry_parked")
    expect(admin.locator(".messagelist .success")).to_have_text("1 retried.")

    admin.goto(f"{site.orders}/admin/messaging/outboxevent/?state=waiting&q={parked}")
    expect(rows(admin, parked)).to_have_count(1)


def test_a_parked_row_is_discarded_once_it_is_confirmed(admin, site, parked):
    choose(admin, site, parked, "discard_parked")
    expect(admin.locator("#chosen")).to_contain_text(re.compile(f"{parked}.*2000000 bytes"))
    admin.click("text=No, take me back")
    expect(rows(admin, parked)).to_have_count(1)

    choose(admin, site, parked, "discard_parked")
    admin.click("text=Yes, I am sure")
    expect(admin.locator(".messagelist .success")).to_have_text("1 discarded.")
    admin.goto(f"{site.orders}/admin/messaging/outboxevent/?state=discarded&q={parked}")
    rows(admin, parked).locator("th a").click()
    for text in ("discarded", ADMIN[0], "2000000 bytes"):
        expect(admin.locator("#content")).to_contain_text(text)
