"""Which characters a text may contain, for serializers, forms and headers.

A line of text is checked by Unicode's general categories. It may contain letters, marks, numbers, punctuation, symbols and
spaces, and must contain a visible character. It may not contain control characters, private-use characters, surrogates,
unassigned characters or format characters (category Cf): a direction override (U+202E) changes how a name reads, and a tag or
a zero-width space hides text. The format characters that are needed to write names are exceptions.
"""

import re
import unicodedata

TOKEN = re.compile(r"^[!-~]+\Z")
"""An id: visible ASCII characters without whitespace."""

SPACES = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
"""Category Zs, as ranges of a character class."""

JOINERS = "\u200c\u200d\u200e\u200f\u061c"
"""Format characters that a text may contain: the joiners that Persian, Indic scripts and emoji need, and the direction marks,
which do not affect other characters."""

BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
"""Invisible letters and an invisible symbol: the Hangul fillers and the empty Braille pattern."""

LOST = "\ufffd"
"""What a decoder writes in place of bytes that it cannot decode: the text that the client meant is lost. Django's parsers of
forms do so, for instance."""

RECENT = "\U0001f6dc\U0001fa70-\U0001faff\U0002ebf0-\U0002ee5d\U00031350-\U00033479"
"""Emoji and ideographs that Unicode 15 to 17 added. They are accepted although this version of Python may not know them yet:
some of the ideographs are used in names on Chinese identity cards. A larger range would make it slow to generate texts for
PATTERN, as tests of an OpenAPI document do."""

PATTERN = (
    rf"^(?!.*[{BLANKS}{LOST}\u20f1-\u20ff])"
    rf"[\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{SPACES}{JOINERS}{RECENT}]*"
    rf"[\p{{L}}\p{{N}}\p{{P}}\p{{S}}{RECENT}]"
    rf"[\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{SPACES}{JOINERS}{RECENT}]*$"
)
"""The same rule as an ECMAScript regular expression, for OpenAPI documents. It is not used for checks, as it may backtrack.

U+20F1 to U+20FF are unassigned, and rejected by their category; Schemathesis takes their whole block for marks.
"""

_RECENT = re.compile(f"[{RECENT}]")


def first_refused(text: str) -> str | None:
    """The first character of `text` that is not allowed, or None."""
    if text.isascii() and text.isprintable():
        return None
    return next((character for character in text if not _is_allowed(character)), None)


def is_visible(text: str) -> bool:
    """Whether `text` contains a visible character, of the categories L, N, P or S."""
    return any(map(_is_shown, text))


def _is_allowed(character: str) -> bool:
    category = unicodedata.category(character)
    return character in JOINERS or category == "Zs" or category[0] == "M" or _is_shown(character)


def _is_shown(character: str) -> bool:
    shown = unicodedata.category(character)[0] in "LNPS" or _RECENT.match(character) is not None
    return shown and character not in BLANKS and character not in LOST
