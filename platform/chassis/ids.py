"""Ids that rise with time, and ids that are derived from others.

The keys of rows and events are inserted into indexes. Random ones reach every page of an index, so that the cost of an event
grows with the table: see docs/adr/0056-ids-that-rise-with-time.md.
"""

import re
import time
from hashlib import sha1
from random import SystemRandom
from uuid import UUID

_random = SystemRandom()
_VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}
_RISING = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4})-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)


def new_id() -> UUID:
    """A new version 7 UUID: 48 bits of the time in milliseconds, and 74 random ones."""
    milliseconds = time.time_ns() // 1_000_000
    random = _random.getrandbits(74)
    return UUID(int=milliseconds << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1)


def derived_id(namespace: UUID | str, name: str) -> str:
    """The id that belongs to this name in this namespace, as text: always the same one.

    If `name` or `namespace` is an id that rises with time, so does this one: it has the same time (version 8). Otherwise it
    is the version 5 UUID, as of `uuid.uuid5`.
    """
    known = str(namespace)
    digits = sha1(bytes.fromhex(known.replace("-", "")) + name.encode(), usedforsecurity=False).hexdigest()
    rest = f"{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"
    if rising := _RISING.fullmatch(name) or _RISING.fullmatch(known):
        return f"{rising[1]}-8{rest}"
    return f"{digits[:8]}-{digits[8:12]}-5{rest}"
