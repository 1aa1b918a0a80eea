"""`make screenshots`: pictures of the console's pages, in docs/images/, from a system that runs as `make up` starts it.

The system is a copy with data of its own. It handles a few users and orders, and a record that nobody can read.
"""

import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from playwright.sync_api import Browser, Page

from embedded import ports
from embedded.console import CONSOLE
from embedded.system import ROOT
from tests.browser.conftest import launched
from tests.embedded.copies import copy, running
from tests.embedded.test_up import READY, dev_env, free_ports
from tests.waiting import eventually

IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1280, "height": 800}
USERS = 12


def main() -> None:
    """Take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    variables = {**free_ports(), CONSOLE.port_variable: str(ports.free(1)[0])}
    with (
        tempfile.TemporaryDirectory(prefix="screenshots-") as folder,
        running(copy(Path(folder)), "up", variables) as run,
    ):
        run.wait_for(READY, within=300)
        addresses = dev_env(run.clone)
        with launched() as browser, opened(browser, addresses["CONSOLE_URL"]) as page:
            take(page, addresses["GATEWAY_URL"])


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """The console's first page, in the light colours."""
    context = browser.new_context(viewport=SIZE, color_scheme="light", base_url=url.partition("/?")[0])
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def take(page: Page, gateway: str) -> None:
    """Let the system work, and take a picture of each page."""
    page.goto("/break")
    page.locator("form[action$='/break/poison'] button").click()
    page.locator("#said", has_text="dead letter").wait_for()
    trace = visit(gateway)
    eventually(lambda: "payment.completed" in page.request.get(f"/stories/{trace}.json").text(), within=60)
    eventually(lambda: "Unreadable" in shown(page, "/dead-letters"), within=60)
    picture(page, "/stories", "stories")
    picture(page, f"/stories/{trace}", "story")
    picture(page, "/topics", "topics")
    picture(page, "/topics/user.created", "records")
    picture(page, "/dead-letters", "dead-letters")
    picture(page, "/catalogue", "catalogue")
    picture(page, "/break", "break")
    page.goto("/")
    for _ in range(3):
        visit(gateway)
    page.wait_for_timeout(2_500)  # the rates of the last seconds
    shoot(page, "map")
    page.emulate_media(color_scheme="dark")
    shoot(page, "map-dark")


def visit(gateway: str) -> str:
    """Create users and read them, as visitors do. Returns the trace id of the first request."""
    trace = secrets.token_hex(16)
    for number in range(USERS):
        user = {"email": f"ada-{secrets.token_hex(4)}@example.org", "name": "Ada Lovelace"}
        sampled = {} if number else {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        made = httpx2.post(f"{gateway}/api/users", json=user, headers=sampled)
        httpx2.get(f"{gateway}/api/users/{made.json()['id']}")
    return trace


def shown(page: Page, path: str) -> str:
    """Open a page, and return its text."""
    page.goto(path)
    page.wait_for_timeout(1_500)  # what the page loads afterwards
    return page.inner_text("main")


def picture(page: Page, path: str, name: str) -> None:
    """The picture of a page."""
    shown(page, path)
    shoot(page, name)


def shoot(page: Page, name: str) -> None:
    """The picture of what is shown now."""
    page.screenshot(path=IMAGES / f"console-{name}.png")
    print(f"docs/images/console-{name}.png", file=sys.stderr)


if __name__ == "__main__":
    main()
