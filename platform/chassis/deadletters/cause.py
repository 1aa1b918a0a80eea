"""What dead letters have in common: the topic, the consumer group, the kind of error, and the place in the code."""

import hashlib
import re
from typing import NamedTuple

LONGEST_TRACEBACK = 20_000
"""Maximum number of characters of a traceback that are searched: a foreign record may contain any."""

_ERROR_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}(?=:|\Z)", re.ASCII)
_FRAME = re.compile(r'^ *File "([^"\n]{1,500})", line ([0-9]{1,7}), in ([^\n]{1,100})', re.MULTILINE)

_ROOTS = re.compile(r".*/(?:site-packages|platform|lib/python[0-9.]+)/")
"""The beginning of a path that depends on where the code is installed."""


class Cause(NamedTuple):
    """Why and where events failed. Dead letters with the same cause form a group."""

    topic: str
    consumer_group: str
    reason: str
    error_type: str
    """The name of the exception's class; empty if the dead letter does not state it."""
    place: str
    """`orders/handlers.py:42 in open_welcome_order`; empty if there is no traceback."""

    @property
    def id(self) -> str:
        """The id of the group: 16 hexadecimal digits."""
        return hashlib.sha256("\0".join(self).encode("utf-8", "replace")).hexdigest()[:16]


def error_type(error: str) -> str:
    """The class in `ValueError: number 1`."""
    found = _ERROR_TYPE.match(error)
    return found[0] if found else ""


def place(traceback: str, service: str) -> str:
    """The innermost line of the service's own code in a traceback; of other code, if there is none."""
    frames = _FRAME.findall(traceback[-LONGEST_TRACEBACK:])
    if not frames:
        return ""
    own = [frame for frame in frames if service and f"/{service}/" in frame[0] and "/site-packages/" not in frame[0]]
    path, line, function = (own or frames)[-1]
    short = f"{service}/{path.rpartition(f'/{service}/')[2]}" if own else _ROOTS.sub("", path)
    return f"{short}:{line} in {function}"
