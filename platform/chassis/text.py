"""What a text may hold, for whoever checks one: serializers, models, the readers of headers."""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters and line separators: in no name, address or id."""

TOKEN = re.compile(r"^[!-~]+\Z")
"""An id: visible ASCII characters, without white space."""
