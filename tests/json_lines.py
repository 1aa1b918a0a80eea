"""The JSON lines of a file that a process is writing, such as its log."""

import json
import threading
from pathlib import Path
from typing import Any


class JsonLines:
    """Parses each line once, when it is complete. Lines that are no JSON objects are left out, such as those of a traceback."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[dict[str, Any]] = []
        self._position = 0
        self._lock = threading.Lock()

    def read(self) -> list[dict[str, Any]]:
        """All objects in the file; none if it does not exist yet."""
        with self._lock:
            for line in self._new():
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                if isinstance(found, dict):
                    self._found.append(found)
            return list(self._found)

    def _new(self) -> list[bytes]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._position += len(complete)
        return complete.splitlines()
