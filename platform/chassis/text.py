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

RESERVED = "\U0001f000-\U0001faff\U00020000-\U0002fffd\U00030000-\U0003fffd"
"""Where emoji and ideographs are added: taken although this Python's table may not know them yet. The ideographs of Unicode 15
are those of names on Chinese identity cards."""

PATTERN = (
    rf"^(?!.*[{BLANKS}])"
    rf"[\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{SPACES}{JOINERS}{RESERVED}]*"
    rf"[\p{{L}}\p{{N}}\p{{P}}\p{{S}}{RESERVED}]"
    rf"[\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{SPACES}{JOINERS}{RESERVED}]*$"
)
"""The same rule as a regular expression of ECMAScript, for an OpenAPI document. As a check it could be made to backtrack."""

_RESERVED = re.compile(f"[{RESERVED}]")


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
    shows = unicodedata.category(character)[0] in "LNPS" or _RESERVED.match(character) is not None
    return shows and character not in BLANKS
