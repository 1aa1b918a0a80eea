"""What a text may hold, for whoever checks one: serializers, forms, the readers of headers.

A line of text is decided about by Unicode's general categories. Letters, marks, numbers, punctuation, symbols and spaces may
stand in it, and something of it must be seen. Control characters, private use, surrogates and what is unassigned may not,
nor format characters (category Cf): an override of the direction (U+202E) makes a name read as another one, and a tag or a
zero-width space hides text in it. The format characters that people write names with are exceptions.
"""

import re
import unicodedata

TOKEN = re.compile(r"^[!-~]+\Z")
"""An id: visible ASCII characters, without white space."""

SPACES = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
"""Category Zs, as ranges of a character class."""

JOINERS = "\u200c\u200d\u200e\u200f\u061c"
"""Format characters that a text may hold: the joiners of Persian, the scripts of India and emoji, and the marks of direction, which
act on nothing but themselves."""

BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol that show nothing: the fillers of Hangul, and the empty Braille pattern."""

RECENT = "\U0001f6dc\U0001fa70-\U0001faff\U0002ebf0-\U0002ee5d\U00031350-\U00033479"
"""Emoji and ideographs that Unicode 15 to 17 have added: taken although this Python's table may not know them yet. Among the
ideographs are those of names on Chinese identity cards. No more than these: a large range makes it slow to generate texts for
PATTERN, as tests of an OpenAPI document do."""

PATTERN = (
    rf"^(?!.*[{BLANKS}\u20f1-\u20ff])"
    rf"[\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{SPACES}{JOINERS}{RECENT}]*"
    rf"[\p{{L}}\p{{N}}\p{{P}}\p{{S}}{RECENT}]"
    rf"[\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{SPACES}{JOINERS}{RECENT}]*$"
)
"""The same rule as a regular expression of ECMAScript, for an OpenAPI document. As a check it could be made to backtrack.

U+20F1 to U+20FF are unassigned, which the categories say as well; Schemathesis takes their whole block for marks.
"""

_RECENT = re.compile(f"[{RECENT}]")


def first_refused(text: str) -> str | None:
    """The first character of `text` that no line of text may hold; None where there is none."""
    if text.isascii() and text.isprintable():
        return None
    return next((character for character in text if not _is_allowed(character)), None)


def is_visible(text: str) -> bool:
    """Whether `text` shows something: a letter, number, punctuation mark or symbol, not only spaces, marks and joiners."""
    return any(map(_shows, text))


def _is_allowed(character: str) -> bool:
    category = unicodedata.category(character)
    return character in JOINERS or category == "Zs" or category[0] == "M" or _shows(character)


def _shows(character: str) -> bool:
    shows = unicodedata.category(character)[0] in "LNPS" or _RECENT.match(character) is not None
    return shows and character not in BLANKS
