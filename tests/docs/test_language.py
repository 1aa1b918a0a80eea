"""Pages and code use the terms of the field."""

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name, prose

INSTEAD = {
    r"worked off|works? off": "processed",
    r"go(?:es)? on\b|went on\b": "continues, resumes, proceeds",
    r"buried|bury\b": "dead-lettered",
    r"\blanes?\b": "key queue",
    r"\b(?:the|each|every|its|one|a) letters?\b": "dead letter, or event",
    r"\bstands? (?:still|in|on|at|beside|behind|\d)": "stops, is",
    r"\bwhoever\b": "any process that, anyone who",
    r"\b(?:is|are) asked\b": "is requested, is probed",
    r"by waiting|with waiting": "waiting is safe, synchronously",
    r"\b(?:module|relay|role|secret|repository|pool|handler|topic|event|row) a (?:service|key|user|transaction)\b": "per service",
    r"\bhis\b|\bhim\b": "the user's, their",
    r"\bhas been by\b|closes its door|serves on\b": "has run, stops listening, keeps serving",
    r"\bthe house\b": "the code",
}
# The changelog keeps the words that were used at the time of a change.
OWN_WORDS = [page for page in PAGES if page.name != "CHANGELOG.md"]

CODE = ("settings", "platform", "gateway", "users", "orders", "payments", "chaos", "bench")
IN_CODE = INSTEAD | {
    r"\bfor ever\b|\bfor good\b": "forever, permanently",
    r"\bnobody\b|\bsomebody\b|\beverybody\b": "no process, another client, all users",
    r"\bhearsay\b": "the client's input",
    r"\banew\b|made again": "starts over, is recreated",
}
TEXT = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def check(text: str, words: dict[str, str], where: str = "") -> None:
    text = re.sub(r"`[^`]*`", "", text)
    for pattern, better in words.items():
        found = re.search(pattern, text, re.IGNORECASE)
        assert not found, f"{where}{found and found.group()!r}: write {better!r}"


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """The comments, docstrings and messages of a file, each with its line. Strings of a single word are values."""
    with file.open("rb") as source:
        tokens = [one for one in tokenize.tokenize(source.readline) if one.type in TEXT and " " in one.string]
    yield from ((one.start[0], one.string) for one in tokens)


@pytest.mark.parametrize("page", OWN_WORDS, ids=name)
def test_pages_avoid_unidiomatic_words(page):
    check(prose(page), INSTEAD)


@pytest.mark.parametrize("folder", CODE)
def test_code_avoids_unidiomatic_words(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        for line, text in texts(file):
            check(text, IN_CODE, f"{file.relative_to(ROOT)}:{line}: ")


def test_the_glossary_defines_terms_once_and_in_one_line():
    rows = re.findall(r"^\| (.+?) \| (.+) \| (.+) \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    terms = [term for term, _, _ in rows if term != "term"]
    assert len(terms) > 50
    assert len(set(terms)) == len(terms)
    for term, meaning, source in rows:
        assert len(meaning) <= 200, term
        assert source in {"source", "this project"} or "](https://" in source, term
