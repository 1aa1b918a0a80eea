"""Messages that the runbook quotes exist in the code, and headings that the code refers to exist."""

import re
from functools import cache

import pytest

from tests.docs.pages import ROOT, anchors, inline

RUNBOOK = ROOT / "docs" / "runbook.md"
FOLDERS = ("platform", "gateway", "users", "orders", "payments", "settings")
MESSAGE = re.compile(r"[\w…' :,()]+")
NOT_MESSAGES = re.compile(r"make |manage|[A-Z]{4,} ")

# What is put together from parts: the part that every instance has.
COMPOSED = {
    "waiting for the database": "waiting for the {",
    "… is back": "} is back",
    "dead letter redriven": "dead letter {",
}


@cache
def sources() -> str:
    """All code, with string literals that go over several lines in one piece."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in files))


def quoted() -> list[str]:
    """The messages in the runbook: text between backticks, of three words at least."""
    texts = [text for text in inline(RUNBOOK) if MESSAGE.fullmatch(text) and text.count(" ") >= 2]
    return sorted({text for text in texts if not NOT_MESSAGES.match(text)})


@pytest.mark.parametrize("message", quoted())
def test_messages_quoted_by_the_runbook_exist_in_the_code(message):
    # `…_DATABASE_URL` stands for the variable of whichever service it is.
    for part in re.split(r"…_DATABASE_(?:DIRECT_)?URL", COMPOSED.get(message, message)):
        assert part in sources(), part


def test_the_runbook_quotes_messages():
    assert len(quoted()) > 20


def test_headings_that_the_code_refers_to_exist():
    named = re.findall(r"'([A-Z][^']+)' in docs/runbook\.md|docs/runbook\.md, ([A-Z][\w ]+)\)", sources())
    headings = {first or second for first, second in named}
    assert len(headings) > 1
    for heading in headings:
        assert heading.lower().replace(" ", "-") in anchors(RUNBOOK), heading
