"""A real browser and real processes: users and orders, each directly and through the gateway."""

import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.serving import database, gateway, gunicorn, run

ADMIN = ("root", "correct horse battery staple")


@dataclass(frozen=True)
class Site:
    """The URLs and environments of the services."""

    users: str
    orders: str
    gateway: str
    users_environment: dict[str, str]
    orders_environment: dict[str, str]


@pytest.fixture(scope="package")
def site():
    with database("users") as users_environment, database("orders") as orders_environment:
        # A redrive is a Kafka transaction, and the machine may be slow while it runs a browser.
        orders_environment["KAFKA_TRANSACTION_TIMEOUT_SECONDS"] = "30"
        for environment in (users_environment, orders_environment):
            name, password = ADMIN
            run(
                [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", name, "--email", ""],
                {**environment, "DJANGO_SUPERUSER_PASSWORD": password},
            )
        with (
            gunicorn("users", users_environment) as users,
            gunicorn("orders", orders_environment) as orders,
            gateway(users=users.url, orders=orders.url) as entry,
        ):
            yield Site(users.url, orders.url, entry.url, users_environment, orders_environment)


def log_in(page, url):
    """Log in to the admin as superuser."""
    page.goto(f"{url}/admin/")
    page.fill("#id_username", ADMIN[0])
    page.fill("#id_password", ADMIN[1])
    page.click("input[type=submit]")
    expect(page.locator("#user-tools")).to_contain_text("root")


@contextmanager
def launched():
    """A running browser."""
    # The same engine; without windows of its own, a page costs half the processor time.
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert executable, "these tests need Chromium: `apt-get install chromium-headless-shell`, or CHROMIUM=/path/to/it"
    with sync_playwright() as playwright:
        # The sandbox does not work as root, and the pages are trusted.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A new page. Fails the test at its end if any script, request or policy failed."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    expect.set_options(timeout=60_000)
    broken = []
    page.on("pageerror", lambda error: broken.append(f"script: {error}"))
    # Violations of the content security policy are reported only on the console.
    page.on(
        "console",
        lambda line: broken.append(f"console: {line.text}") if "Content Security Policy" in line.text else None,
    )
    # What a page still waits for when it is left is aborted.
    page.on(
        "requestfailed",
        lambda request: (
            broken.append(f"{request.url}: {request.failure}") if request.failure != "net::ERR_ABORTED" else None
        ),
    )
    page.on(
        "response",
        lambda response: (
            broken.append(f"{response.url}: {response.status}")
            if response.status >= 400 and response.request.resource_type != "document"
            else None
        ),
    )
    yield page
    context.close()
    assert broken == []
