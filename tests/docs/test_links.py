"""Links, files, make targets, commands and variables in the documentation exist."""

import re
from functools import cache

import pytest
from django.core.management import get_commands

from services import SERVICES
from settings.environment import ENVIRONMENTS
from tests.docs.pages import PAGES, ROOT, anchors, blocks, code, inline, name, prose

# Where a path in the documentation may begin, beside the page's own folder.
BASES = [ROOT, ROOT / "platform", ROOT / "platform/chassis", ROOT / "platform/chassis/messaging"]
FILE = re.compile(r"[\w.-]+\.(?:py|md|toml|yaml|txt|sh|json)")
PATH = re.compile(r"(?<![\w/.~:<{$-])(?:\.?[\w-]+/)(?:[\w.-]+/)*[\w.-]*(?![\w/+>])")
# Made while the system runs, Kafka's own tools, and an example of what somebody would add.
NOT_HERE = re.compile(r"^(?:var/|site/|\.venv/|kafka-[a-z-]+\.sh)|stock")
CODE = ("settings", "platform", *(service.name for service in SERVICES), "docker", "deploy")
EVERY = pytest.mark.parametrize("page", PAGES, ids=name)


@cache
def file_names() -> set[str]:
    here = {path.name for path in ROOT.iterdir()}
    return here | {path.name for folder in (*CODE, "docs", "tests", "bench") for path in (ROOT / folder).rglob("*")}


@cache
def sources() -> str:
    """All that is not documentation, in one text."""
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yaml"}]
    variables = (name for environment in ENVIRONMENTS.values() for name in environment.model_fields)
    return "\n".join([*(path.read_text() for path in [*files, ROOT / "Makefile"]), *variables])


@EVERY
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@EVERY
def test_paths_exist(page):
    for text in inline(page):
        for path in PATH.findall(text):
            # `text/html` looks like a path too, but neither begins nor ends like one of ours.
            ours = (
                (ROOT / path.partition("/")[0]).is_dir()
                or path.endswith("/")
                or FILE.fullmatch(path.rpartition("/")[2])
            )
            if NOT_HERE.search(path) or not ours:
                continue
            assert any((base / path).exists() for base in [page.parent, *BASES]), path


@EVERY
def test_files_that_are_named_alone_exist(page):
    for text in inline(page):
        if FILE.fullmatch(text) and not NOT_HERE.search(text):
            assert text in file_names(), text


@EVERY
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in code(page):
        for words in re.findall(r"(?:^|(?<=\s))make((?: [a-z]+)+)", text, re.MULTILINE):
            assert set(words.split()) <= targets, words


@EVERY
def test_management_commands_exist(page):
    for text in code(page):
        for command in re.findall(r"manage\.py,? ([a-z_]+)", text):
            assert command in get_commands(), command


@EVERY
def test_variables_exist(page):
    for text in inline(page):
        for variable in re.findall(r"\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b", text):
            known = variable in sources() or variable.lower() in sources()
            assert known, variable


@EVERY
def test_tables_are_whole(page):
    for line in prose(page).splitlines():
        if line.startswith("|"):
            assert line.rstrip().endswith("|"), line


def test_every_decision_is_in_the_index():
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    for page in (ROOT / "docs" / "adr").glob("0*.md"):
        title = page.read_text().splitlines()[0]
        assert f"({page.name})" in index
        assert title.startswith(f"# {page.name[:4]} "), title


def test_the_readme_shows_what_the_demo_shows():
    [shown] = [block for block in blocks(ROOT / "README.md") if "All as promised." in block]
    source = "".join((ROOT / "platform/embedded" / file).read_text() for file in ("demo.py", "story.py"))
    for words in ("A new user, followed through the system", "published user.created", "The same event a second time"):
        assert words in shown
        assert words in source
