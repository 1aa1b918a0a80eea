"""The log lines of the last minutes, bounded in bytes."""

import re
import sys
import threading
import time
from collections import deque
from datetime import datetime

from console.stores.model import Line

OVERHEAD = 250
"""Bytes that Python needs for a line besides its text: the object, its ids, and its places in the index."""
LONGEST = 16_384
"""Maximum number of characters of a line; the rest is cut off."""

_TRACE = re.compile(r"""trace_id(?:=|":")'?([0-9a-f]{32})""")
_REQUEST = re.compile(r"""request_id(?:=|":")'?([A-Za-z0-9._:-]{1,128})""")
_LEVEL = re.compile(r"""\[(debug|info|warning|error|critical) *\]|"level":"(\w+)\"""")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z)")


class Lines:
    """Log lines, in the order in which they were read, and by the trace or request that they name. Safe for several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._lines: deque[Line] = deque()
        self._by_id: dict[str, list[Line]] = {}
        self._bytes = 0
        self._number = 0
        self.dropped = 0
        """The number of lines that were dropped to make room."""

    @property
    def bytes(self) -> int:
        """How many bytes they take."""
        return self._bytes

    def __len__(self) -> int:
        """The number of lines."""
        return len(self._lines)

    def add(self, process: str, text: str, follows: Line | None = None) -> Line:
        """Keep a line of a process.

        `follows` is the line before it: one without a time, such as a part of a traceback, has the ids of that one.
        """
        text = text[:LONGEST]
        trace, request = _TRACE.search(text), _REQUEST.search(text)
        at = _time_of(text)
        if at is None and follows is not None:
            ids, level, at = (follows.trace_id, follows.request_id), follows.level, follows.at
        else:
            ids = (trace[1] if trace else "", request[1] if request else "")
            level, at = _level_of(text), time.time() if at is None else at
        with self._lock:
            key = ids[0] or ids[1]
            known = self._by_id.get(key)
            if known and (known[-1].trace_id, known[-1].request_id) == ids:
                ids = (known[-1].trace_id, known[-1].request_id)  # the same strings, once in memory
            self._number += 1
            line = Line(
                number=self._number,
                process=sys.intern(process),
                at=at,
                level=sys.intern(level),
                text=text,
                trace_id=ids[0],
                request_id=ids[1],
            )
            self._lines.append(line)
            if known is not None:
                known.append(line)
            elif key:
                self._by_id[key] = [line]
            self._bytes += sys.getsizeof(text) + OVERHEAD
            while self._bytes > self._most_bytes and len(self._lines) > 1:
                self._drop_oldest()
        return line

    def of(self, trace_id: str, request_id: str = "") -> list[Line]:
        """The lines of a trace, and those that name only its request, in the order of their time."""
        with self._lock:
            found = [*self._by_id.get(trace_id, ()), *(self._by_id.get(request_id, ()) if request_id else ())]
        return sorted(found, key=lambda line: (line.at, line.number))

    def newest(self, limit: int, *, process: str = "", text: str = "") -> list[Line]:
        """The newest lines, oldest first, optionally those of a process or with a text in them."""
        with self._lock:
            lines = list(self._lines)
        wanted = [
            line
            for line in reversed(lines)
            if (not process or line.process == process) and (not text or text.lower() in line.text.lower())
        ]
        return wanted[:limit][::-1]

    def _drop_oldest(self) -> None:
        line = self._lines.popleft()
        self.dropped += 1
        self._bytes -= sys.getsizeof(line.text) + OVERHEAD
        if key := line.trace_id or line.request_id:
            known = self._by_id[key]
            known.pop(0)
            if not known:
                del self._by_id[key]


def _level_of(text: str) -> str:
    found = _LEVEL.search(text)
    return (found[1] or found[2]) if found else ""


def _time_of(text: str) -> float | None:
    found = _TIME.search(text, 0, 200 if not text.startswith("{") else len(text))
    try:
        return datetime.fromisoformat(found[1]).timestamp() if found else None
    except ValueError:
        return None
