"""The characters that text may contain, by Unicode category, and the pattern in the API's document."""

import re
import unicodedata

import jsonschema_rs
import pytest
from django.core.exceptions import ValidationError as FormError
from hypothesis import example, given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from chassis.http.fields import TextField
from chassis.text import PATTERN, first_refused, is_visible
from users.admin import UserForm

EVERY = [
    chr(n)
    for n in (*range(0x40000), *range(0x40000, 0xE0000, 997), *range(0xE0000, 0xE1000), *range(0xE1000, 0x110000, 997))
]
"""Of the planes in which nothing is, some."""

FORMAT = set("\u200c\u200d\u200e\u200f\u061c")
BLANK = set("\u115f\u1160\u2800\u3164\uffa0\ufffd")
"""What shows nothing, or that something was lost."""

SHOWS = ("L", "N", "P", "S")


def is_recent(character):
    """Whether it is an emoji or an ideograph, or the place of one, that Python's table may be too old for."""
    return (
        re.match("[\U0001f6dc\U0001fa70-\U0001faff\U0002ebf0-\U0002ee5d\U00031350-\U00033479]", character) is not None
    )


def test_every_character_is_classified_by_its_category():
    for character in EVERY:
        category = unicodedata.category(character)
        shows = (category.startswith(SHOWS) or is_recent(character)) and character not in BLANK
        allowed = shows or category.startswith("M") or category == "Zs" or character in FORMAT
        assert (first_refused(f"a{character}b") is None) == allowed, hex(ord(character))
        assert is_visible(f" \u0301{character}\u200d") == shows, hex(ord(character))


def test_the_pattern_in_the_document_matches_the_validation():
    document = jsonschema_rs.Draft202012Validator({"type": "string", "pattern": PATTERN})
    allowed = [one for one in EVERY if first_refused(one) is None]
    assert document.is_valid("".join(allowed))
    assert not document.is_valid("".join(one for one in allowed if not is_visible(one)))
    for one in allowed:
        if not is_visible(one):
            assert not document.is_valid(one), hex(ord(one))
    # What is unassigned here may be a letter in a newer table; of the rest, a part of the many that no table names.
    refused = [one for one in EVERY if first_refused(one) and unicodedata.category(one) not in {"Cn", "Cs", "Co"}]
    for one in [*refused, *EVERY[0x40000:], "\ue000", "\uf8ff", "\ufdd0", "\ufffe", "\uffff", "\U0001ffff"]:
        if first_refused(one):
            assert not document.is_valid(f"a{one}b"), hex(ord(one))


@given(
    st.text(
        st.one_of(st.characters(), st.sampled_from(sorted(FORMAT | BLANK | set("\u202e\u0301 a\n\x85\U000e0041")))),
        max_size=5,
    )
)
@example("Ada\x1f")  # which strip() removes, as if it were a space
def test_the_api_and_the_admin_agree(text):
    assert taken(lambda: TextField(max_length=200).run_validation(text), ValidationError) == taken(
        lambda: by_form(text), FormError
    )


def taken(check, refusal):
    try:
        check()
    except refusal:
        return False
    return True


def by_form(text):
    form = UserForm({"name": text})
    if "name" in form.errors:
        raise FormError(form.errors["name"])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Ada\u202ecalm", "The character U+202E is not allowed."),
        ("Ada\U000e0041", "The character U+E0041 is not allowed."),
        ("\u0301\u0302", "This text has no visible characters."),
    ],
)
def test_the_message_names_the_character(text, error):
    with pytest.raises(ValidationError) as refused:
        TextField(max_length=200).run_validation(text)

    assert refused.value.detail == [error]
