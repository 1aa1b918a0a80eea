"""`make docs` builds the documentation site strictly, without content from other hosts."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

ENVIRONMENT = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` runs, into another folder."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True, check=False)


class Fetched(HTMLParser):
    """Collects what a browser fetches when it shows a page: scripts, style sheets, images, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in {"script", "img", "iframe", "source"} and attributes.get("src"):
            self.urls.append(attributes["src"])
        if tag == "link" and attributes.get("rel") in {"stylesheet", "icon", "preconnect", "preload", "modulepreload"}:
            self.urls.append(attributes["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = build(ROOT, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_it_has_the_pages_of_the_repository(site):
    for page in ("index", "contributing", "changelog", "kubernetes", "runbook", "glossary", "adr/index"):
        assert (site / f"{page}.html").is_file(), page
    assert "What it promises" in (site / "index.html").read_text()


def test_it_can_be_searched(site):
    assert "redrive" in (site / "search" / "search_index.json").read_text()


def test_nothing_is_fetched_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text())
        assert fetched.urls
        assert not [url for url in fetched.urls if re.match(r"(?:https?:)?//", url)], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text()), sheet.name


def test_faults_fail_the_build(tmp_path):
    for path in ("docs", "deploy", "docker", "mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        source, copy = ROOT / path, tmp_path / path
        _ = shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    with (tmp_path / "docs" / "limits.md").open("a") as page:
        page.write("\n[a page](nowhere.md), [a heading](runbook.md#no-such-heading)\n")
    (tmp_path / "docs" / "stray.md").write_text("# A page that is not in the navigation\n")
    result = build(tmp_path, tmp_path / "site")
    assert result.returncode != 0
    for fault in ("nowhere.md", "#no-such-heading", "stray.md"):
        assert fault in result.stderr, result.stderr
