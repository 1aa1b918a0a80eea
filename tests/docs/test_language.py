"""Pages use the terms of the field: words that readers stumbled over do not come back."""

import re

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
# What was written at the time of a change stays as it was; the text of settings.md is that of settings/environment/.
OTHERS = {"CHANGELOG.md", "settings.md"}
OWN_WORDS = [page for page in PAGES if page.name not in OTHERS]


@pytest.mark.parametrize("page", OWN_WORDS, ids=name)
def test_words_that_readers_stumbled_over(page):
    text = re.sub(r"`[^`]*`", "", prose(page))
    for pattern, better in INSTEAD.items():
        found = re.search(pattern, text, re.IGNORECASE)
        assert not found, f"{found and found.group()!r}: write {better!r}"


def test_the_glossary_defines_terms_once_and_in_one_line():
    rows = re.findall(r"^\| (.+?) \| (.+) \| (.+) \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    terms = [term for term, _, _ in rows if term != "term"]
    assert len(terms) > 50
    assert len(set(terms)) == len(terms)
    for term, meaning, source in rows:
        assert len(meaning) <= 200, term
        assert source in {"source", "this project"} or "](https://" in source, term
