"""What a text may hold, for whoever checks one: serializers, models, the readers of headers."""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters and line separators: in no name, address or id."""

TOKEN = re.compile(r"^[!-~]+\Z")
"""An id: visible ASCII characters, without white space."""

INVISIBLE = (
    "\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that show nothing, as ranges of a character class: control and white space, Unicode's Default_Ignorable_Code_Point,
the marks of annotations and of Egyptian layout, and the empty Braille pattern."""

VISIBLE = re.compile(f"[^{INVISIBLE}]")
"""Found in a text that shows something."""

LOCAL_PART = 64
"""Octets of an email address before its `@` (RFC 5321, 4.5.3.1.1)."""
