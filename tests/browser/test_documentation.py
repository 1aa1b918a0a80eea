"""The documentation site in a browser: search works, and nothing is loaded from other hosts."""

import functools
import http.server
import os
import subprocess
import sys
import threading

import pytest
from playwright.sync_api import expect

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def documentation(tmp_path_factory):
    """Where the site is served."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, check=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_search_finds_pages_and_nothing_comes_from_another_host(page, documentation):
    requested = []
    page.on("request", lambda request: requested.append(request.url))

    page.goto(f"{documentation}/index.html")
    page.locator("input[data-md-component=search-query]").fill("redrive")

    expect(page.locator(".md-search-result__item").first).to_be_visible()
    assert len(requested) > 5
    assert not [url for url in requested if not url.startswith((documentation, "data:"))]
