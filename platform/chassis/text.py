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

RESERVED = "\U0001f000-\U0001faff\U00020000-\U0002fffd\U00030000-\U0003fffd"
"""Blocks to which emoji and ideographs are added. They are accepted although this version of Python may not know them yet: the
ideographs of Unicode 15 are those of names on Chinese identity cards."""

PATTERN = (
    rf"^(?!.*[{BLANKS}])"
    rf"[\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{SPACES}{JOINERS}{RESERVED}]*"
    rf"[\p{{L}}\p{{N}}\p{{P}}\p{{S}}{RESERVED}]"
    rf"[\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{SPACES}{JOINERS}{RESERVED}]*$"
)
"""The same rule as an ECMAScript regular expression, for OpenAPI documents. It is not used for checks, as it may backtrack."""

_RESERVED = re.compile(f"[{RESERVED}]")


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
    shown = unicodedata.category(character)[0] in "LNPS" or _RESERVED.match(character) is not None
    return shown and character not in BLANKS
